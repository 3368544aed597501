"""Is a download complete and readable? Rows beside the official counts, missing and broken media, wrong files."""

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
from flamingo_eval.data.videos import open_video
from flamingo_eval.data.whole_files import looks_whole
from flamingo_eval.errors import DataError, MediaError, Problem
from flamingo_eval.metrics import references_note
from flamingo_eval.records import Example, Image, Media, Split

AT_ONCE = 256  # files handed to the threads before their results are taken: progress moves, memory stays small
A_THREAD = 16  # files that a thread takes at a time: looking at one may cost less than handing it over
PROBE_FRAMES = 16  # of a clip, spread over all of it: a cut file lacks the last of them

OnProgress = Callable[[int, int], None]  # media looked at, media in all


@dataclass(frozen=True, slots=True)
class SplitCheck:
    """What lies on disk of one split. `official` is None where no source gives a count."""

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
    """All splits that were looked at, and everything that is wrong with them, in reading order."""

    task: str
    root: Path
    splits: tuple[SplitCheck, ...]
    problems: tuple[Problem, ...]
    notes: tuple[str, ...] = ()  # nothing is wrong, but a reader of the scores should know

    @property
    def partial(self) -> tuple[SplitCheck, ...]:
        """The splits that have another number of rows than the official release."""
        return tuple(s for s in self.splits if s.official is not None and s.rows != s.official)


def check_task(
    task: TaskSpec, root: Path | DataRoot, split: str | None = None, on_progress: OnProgress | None = None
) -> CheckReport:
    """Read the splits that are on disk (or the one named) and open every picture and clip of theirs.

    What is wrong with a split does not keep the others from being checked. Raises DataError if no split is there.
    """
    names = (split,) if split else splits_on_disk(task, root)
    if not names:
        source_of(task, root, task.data.query).check()
        raise DataError(f"{task.name}: no split lies in {root}.")
    problems: list[Problem] = []
    loaded = {}
    needed = (split, task.data.query, task.data.support)
    for name in names:
        try:
            loaded[name] = load_split(task, root, name)
        except NoExamplesError as error:  # a file of several splits need not have them all
            problems += [Problem(str(error))] if name in needed else []
        except DataError as error:
            problems += error.problems or (Problem(str(error)),)
    wanted = {name: _distinct(part.examples) for name, part in loaded.items()}
    everything = dict.fromkeys(media for part in wanted.values() for media in part)
    verdicts = dict(zip(everything, _verdicts(everything, len(everything), on_progress, _probe), strict=True))
    splits = []
    for name in (n for n in names if n in loaded or n in needed):
        missing = [m for m in wanted.get(name, ()) if (v := verdicts[m]) and not v.exists]
        broken = [m for m in wanted.get(name, ()) if (v := verdicts[m]) and v.exists]
        part = loaded.get(name)
        splits.append(
            SplitCheck(
                name,
                len(part.examples) if part else 0,
                task.data.counts.get(name),
                part.labelled if part else False,
                len(wanted.get(name, ())),
                len(missing),
                len(broken),
                part.files if part else (),
            )
        )
    problems += [verdict.problem for verdict in verdicts.values() if verdict]
    problems += [] if split else _support_missing(task, root, names)
    return CheckReport(
        task.name, as_data_root(root).folder, tuple(splits), tuple(problems), tuple(_notes(task, loaded))
    )


def _notes(task: TaskSpec, splits: Mapping[str, Split]) -> Iterator[str]:
    """What the metrics say of the splits' references."""
    for name, part in splits.items():
        for metric in task.metrics:
            if note := references_note(metric.name, part.examples):
                yield f"{name}, {metric.name}: {note}"


def _support_missing(task: TaskSpec, root: Path | DataRoot, names: Iterable[str]) -> Iterator[Problem]:
    """The split that shots are drawn from, where its files are not on disk: `run` needs them."""
    support = task.data.support
    if support is None or support in names:
        return
    source = source_of(task, root, support)
    for sentence in source.missing():
        yield Problem(f"split '{support}', which shots are drawn from: {sentence}", source.root)


def unreadable_media(
    media: Iterable[Media], on_progress: OnProgress | None = None, decode: bool = True
) -> list[Problem]:
    """One problem for each picture or clip that is missing or cannot be decoded, in the order given.

    Without `decode`, a picture whose file looks whole is taken for readable: damage inside it is not found here.
    """
    everything = tuple(media)
    probe = _probe if decode else _probe_doubtful
    return [v.problem for v in _verdicts(everything, len(everything), on_progress, probe) if v]


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
    """None for what can be shown, in order. Decoders release the interpreter's lock, so threads are enough."""
    rest, done = iter(media), 0

    def probe_all(part: Sequence[Media]) -> list[_Broken | None]:
        return [probe(item) for item in part]

    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        while batch := list(islice(rest, AT_ONCE)):
            parts = [batch[i : i + A_THREAD] for i in range(0, len(batch), A_THREAD)]
            for verdicts in pool.map(probe_all, parts):
                yield from verdicts
            done += len(batch)
            if on_progress:
                on_progress(done, total)


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
            open_video(media, frames=PROBE_FRAMES, longer="spread")
    except MediaError as error:
        return _Broken(True, Problem(str(error), media.path))
    return None
