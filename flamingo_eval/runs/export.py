"""Planned runs -> prompts as data, one JSON line per query and run, so that any program can answer them.

A line contains what a model is shown and asked, but no references or targets. Pictures and clips are paths: of the
data's own files, or of copies next to the exported file, named by content. `flamingo-eval score --name` reads the
answers.
"""

from __future__ import annotations

import dataclasses
import io
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from flamingo_eval.config.specs import ProtocolSpec
from flamingo_eval.data.media import content_hash
from flamingo_eval.data.media_files import unreadable, why_missing
from flamingo_eval.data.parquet import cell_bytes
from flamingo_eval.data.usable import UsableExamples
from flamingo_eval.errors import MediaError
from flamingo_eval.files import printable, write_atomically
from flamingo_eval.prompting.prompts import candidate_text, render
from flamingo_eval.records import EndOfChunk, Episode, Image, Media, Part, Prompt, Video
from flamingo_eval.runs.answer import shot_orders
from flamingo_eval.runs.backend import Backend
from flamingo_eval.runs.plan import PlannedRun
from flamingo_eval.runs.session import ranked_episodes

SKIP = "Restore the file, or export with --on-error skip: such queries are left out and counted."


@dataclass(slots=True)
class MediaCopies:
    """Copies of pictures and clips in one folder, each content once, named by its sha256."""

    folder: Path
    names: dict[tuple[Path, str, int], str] = field(default_factory=dict)

    def name(self, media: Media) -> str:
        """The copy's path relative to the exported file; copied at first use. Raises MediaError."""
        image = media if isinstance(media, Image) else Image(media.path)  # a clip is copied whole, not by segments
        key = (image.path, image.column, image.row)
        if key not in self.names:
            self.names[key] = f"{self.folder.name}/{self._copy(image)}"
        return self.names[key]

    def _copy(self, image: Image) -> str:
        digest = content_hash(image)
        try:
            content = cell_bytes(image.path, image.column, image.row) if image.column else b""
        except OSError as error:
            raise unreadable(image.path, error.strerror or str(error), place=f"row {image.row + 1}") from error
        target = self.folder / f"{digest}{_suffix(content) if content else image.path.suffix.lower()}"
        if target.is_file():
            return target.name
        self.folder.mkdir(parents=True, exist_ok=True)
        if content:
            write_atomically(target, content)
        else:
            part = target.with_name(f".{target.name}.tmp")
            try:
                shutil.copyfile(image.path, part)
                part.replace(target)
            finally:
                part.unlink(missing_ok=True)
        return target.name


def _orders(run: PlannedRun, episode: Episode) -> list[Episode]:
    """The episode in each order of its shots that candidates are scored over (--permutations)."""
    if run.task.mode == "open-ended":
        return [episode]
    orders = shot_orders(episode, run)
    return [replace(episode, shots=tuple(episode.shots[i] for i in order)) for order in orders]


def _suffix(content: bytes) -> str:
    """The suffix of a picture without a file name, from its content; empty if Pillow does not know the format."""
    from PIL import Image as PillowImage
    from PIL import UnidentifiedImageError

    try:
        with PillowImage.open(io.BytesIO(content)) as picture:
            return f".{(picture.format or '').lower()}".rstrip(".").replace(".jpeg", ".jpg")
    except (UnidentifiedImageError, OSError, ValueError):
        return ""


@dataclass(slots=True)
class Exporter:
    """Makes the lines, and counts the queries that are skipped because one of their files cannot be read."""

    copies: MediaCopies | None = None  # None: references to the data's own files
    backend: Backend | None = None  # for runs whose demonstrations a model chooses (RICES)
    first: Episode | None = None  # of all written queries
    failed: dict[str, str] = field(default_factory=dict)  # query -> why

    def lines(self, runs: Iterable[PlannedRun]) -> Iterator[dict[str, Any]]:
        """A JSON value for each query of each run, as they are needed.

        Raises MediaError for a missing or unreadable file, unless the run skips errors.
        """
        for run in runs:
            for episode in self._episodes(run):
                try:
                    lines = [self._line(run, ordered) for ordered in _orders(run, episode)]
                    self.first = self.first or episode
                    yield from lines if len(lines) == 1 else ({**line, "order": i} for i, line in enumerate(lines))
                except MediaError as error:
                    if run.on_error == "stop":
                        raise MediaError(f"{run.task_label}, query {episode.query.id}: {error}", fix=SKIP) from error
                    self.failed[f"{run.task_label}: {episode.query.id}"] = str(error)

    def _episodes(self, run: PlannedRun) -> Iterable[Episode]:
        if self.backend is None or not run.ranked_by_model:
            return run.episodes()
        spec = run.spec(self.backend.identity)
        usable = UsableExamples(self.backend.check) if run.on_error == "skip" else None
        return ranked_episodes(self.backend, spec, run.data, run.queries, run.support, usable).values()

    def _line(self, run: PlannedRun, episode: Episode) -> dict[str, Any]:
        prompt = render(episode, run.prompt, run.protocol, run.data.queries.candidates)
        line: dict[str, Any] = {
            "id": episode.query.id,
            "task": run.task_label,
            "split": run.data.queries.name,
            "protocol": run.protocol.name,
            "shots": run.demos.shots,
            "seed": run.demos.seed,
            "demos": run.demos.method,
            "ablation": run.ablation,
            "limit": run.limit,
            "shot_ids": [s.id for s in episode.shots],
            "text_only": episode.text_only,
            **self._prompt(prompt, run.protocol),
            "mode": run.task.mode,
        }
        if run.task.mode == "open-ended":
            return {**line, "decoding": dataclasses.asdict(run.decode)}
        names = episode.query.candidates or run.data.queries.candidates
        if run.generates:
            return {**line, "candidates": list(names), "decoding": dataclasses.asdict(run.decode), "answer": "letter"}
        continuations = [candidate_text(name, run.prompt) for name in names]
        return {
            **line,
            "candidates": list(names),
            "continuations": continuations,
            "ranking": dataclasses.asdict(run.rank),
        }

    def _prompt(self, prompt: Prompt, protocol: ProtocolSpec) -> dict[str, Any]:
        if prompt.turns:
            return {"turns": [{"role": t.role, "parts": self._parts(t.parts, protocol)} for t in prompt.turns]}
        return {"begin": protocol.begin, "parts": self._parts(prompt.parts, protocol)}

    def _parts(self, parts: Sequence[Part], protocol: ProtocolSpec) -> list[dict[str, Any]]:
        return [self._part(part, protocol) for part in parts]

    def _part(self, part: Part, protocol: ProtocolSpec) -> dict[str, Any]:
        if isinstance(part, str):
            return {"type": "text", "text": part}
        if isinstance(part, EndOfChunk):
            return {"type": "end_of_chunk", "text": protocol.end_of_chunk}
        if not isinstance(part, (Image, Video)):
            raise AssertionError(f"a prompt of a data set contains {type(part).__name__}")
        if cause := why_missing(part.path):
            raise unreadable(part.path, cause)
        kind = "image" if isinstance(part, Image) else "video"
        value: dict[str, Any] = {"type": kind, "path": printable(part.path.absolute())}
        if self.copies is not None:
            value["path"] = self.copies.name(part)
        elif isinstance(part, Image) and part.column:
            value |= {"column": part.column, "row": part.row}
        if isinstance(part, Video):
            value |= {k: v for k, v in (("start", part.start), ("end", part.end)) if v is not None}
        return value
