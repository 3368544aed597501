"""Checks a download: rows against the official counts, missing and damaged media, wrong files."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from flamingo_eval.config.specs import TaskSpec
from flamingo_eval.data.images import open_image
from flamingo_eval.data.layouts import load_split, source_of, splits_on_disk
from flamingo_eval.data.media_files import unreadable, why_missing
from flamingo_eval.data.roots import DataRoot, as_data_root
from flamingo_eval.data.source import NoExamplesError
from flamingo_eval.data.whole_files import looks_whole
from flamingo_eval.errors import DataError, MediaError, Problem
from flamingo_eval.metrics.requirements import references_note
from flamingo_eval.records import Example, Image, Media, Split

AT_ONCE = 256  # files given to the threads at a time: small memory, regular progress
A_THREAD = 16  # files that a thread takes at a time: looking at one may cost less than handing it over
PROBE_FRAMES = 16  # frames of a clip, spread over all of it: a truncated file does not have the last one

OnProgress = Callable[[int, int], None]  # media checked, media in total


@dataclass(frozen=True, slots=True)
class SplitCheck:
    """The rows of one split on disk. `official` is None if no source gives a count."""

    name: str
    rows: int
    official: int | None
    labelled: bool
    media: int
    missing: int
    unreadable: int
    files: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class CheckReport:
    """All splits that were checked, and their problems, in reading order."""

    task: str
    root: Path
    splits: tuple[SplitCheck, ...]
    problems: tuple[Problem, ...]
    notes: tuple[str, ...] = ()  # not a problem, but important for the scores

    @property
    def partial(self) -> tuple[SplitCheck, ...]:
        """The splits whose number of rows differs from the official release."""
        return tuple(s for s in self.splits if s.official is not None and s.rows != s.official)


def check_task(
    task: TaskSpec, root: Path | DataRoot, split: str | None = None, on_progress: OnProgress | None = None
) -> CheckReport:
    """Read the splits on disk (or the given one) and open all of their pictures and clips.

    Problems of one split do not stop the check of the others. Raises DataError if there is no split.
    """
    names = (split,) if split else splits_on_disk(task, root)
    if not names:
        source_of(task, root, task.data.query).check()
        raise DataError(f"{task.name}: found no split in {root}.")
    problems: list[Problem] = []
    split_data = {}
    required = (split, task.data.query, task.data.support)
    for name in names:
        try:
            split_data[name] = load_split(task, root, name)
        except NoExamplesError as error:  # a file of several splits need not have them all
            problems += [Problem(str(error))] if name in required else []
        except DataError as error:
            problems += error.problems or (Problem(str(error)),)
    media_of = {name: _distinct(part.examples) for name, part in split_data.items()}
    all_media = dict.fromkeys(media for part in media_of.values() for media in part)
    verdicts = dict(zip(all_media, _verdicts(all_media, len(all_media), on_progress, _probe), strict=True))
    splits = []
    for name in (n for n in names if n in split_data or n in required):
        missing = [m for m in media_of.get(name, ()) if (v := verdicts[m]) and not v.exists]
        damaged = [m for m in media_of.get(name, ()) if (v := verdicts[m]) and v.exists]
        part = split_data.get(name)
        splits.append(
            SplitCheck(
                name,
                len(part.examples) if part else 0,
                task.data.counts.get(name),
                part.labelled if part else False,
                len(media_of.get(name, ())),
                len(missing),
                len(damaged),
                part.files if part else (),
            )
        )
    problems += [verdict.problem for verdict in verdicts.values() if verdict]
    problems += [] if split else _support_missing(task, root, names)
    return CheckReport(
        task.name, as_data_root(root).folder, tuple(splits), tuple(problems), tuple(_notes(task, split_data))
    )


def _notes(task: TaskSpec, splits: Mapping[str, Split]) -> Iterator[str]:
    """Notes of the metrics about the splits' references."""
    for name, part in splits.items():
        for metric in task.metrics:
            if note := references_note(metric.name, part.examples):
                yield f"{name}, {metric.name}: {note}"


def _support_missing(task: TaskSpec, root: Path | DataRoot, names: Iterable[str]) -> Iterator[Problem]:
    """The problem of a support split whose files are missing: `run` needs them."""
    support = task.data.support
    if support is None or support in names:
        return
    source = source_of(task, root, support)
    for sentence in source.missing():
        yield Problem(f"split '{support}', which shots are drawn from: {sentence}", source.root)


def unreadable_media(
    media: Iterable[Media], on_progress: OnProgress | None = None, decode: bool = True
) -> list[Problem]:
    """One problem for each picture or clip that is missing or cannot be decoded, in order.

    Without `decode`, a picture whose file looks complete counts as readable; damage inside it is not found.
    """
    all_media = tuple(media)
    probe = _probe if decode else _probe_doubtful
    return [v.problem for v in _verdicts(all_media, len(all_media), on_progress, probe) if v]


@dataclass(frozen=True, slots=True)
class _Broken:
    exists: bool
    problem: Problem


def _distinct(examples: Iterable[Example]) -> tuple[Media, ...]:
    return tuple(dict.fromkeys(media for example in examples for media in example.media))


def _verdicts(
    media: Iterable[Media],
    total: int,
    on_progress: OnProgress | None,
    probe: Callable[[Media], _Broken | None],
) -> Iterator[_Broken | None]:
    """The problem of each file, or None, in order. Threads are enough: decoders release the interpreter's lock."""
    remaining, n_done = iter(media), 0

    def probe_all(part: Sequence[Media]) -> list[_Broken | None]:
        return [probe(item) for item in part]

    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        while batch := list(islice(remaining, AT_ONCE)):
            parts = [batch[i : i + A_THREAD] for i in range(0, len(batch), A_THREAD)]
            for verdicts in pool.map(probe_all, parts):
                yield from verdicts
            n_done += len(batch)
            if on_progress:
                on_progress(n_done, total)


def _probe_doubtful(media: Media) -> _Broken | None:
    return None if looks_whole(media) else _probe(media)


def _probe(media: Media) -> _Broken | None:
    missing = why_missing(media.path)
    if missing:
        return _Broken(False, Problem(str(unreadable(media.path, missing)), media.path))
    try:
        if isinstance(media, Image):
            open_image(media)
        else:
            from flamingo_eval.data.videos import open_video  # FFmpeg: a finished run needs none

            open_video(media, frames=PROBE_FRAMES, longer="spread")
    except MediaError as error:
        return _Broken(True, Problem(str(error), media.path))
    return None
