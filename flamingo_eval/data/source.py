"""The files of a split: roles of the task YAML -> paths below the data root.

A role lists alternatives (renamed releases, nested or flat folders); the first that exists is read. All missing
annotation files are reported at once, before anything is read. Media are not opened: folders.py finds the file for a
name.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from flamingo_eval.config.specs import TaskSpec
from flamingo_eval.data.annotations import ProblemLog
from flamingo_eval.data.folders import IMAGE_SUFFIXES, VIDEO_SUFFIXES, MediaFolders, on_disk
from flamingo_eval.errors import ConfigError, DataError, did_you_mean
from flamingo_eval.records import Example, Image, Split, Video

SHOWN_NAMES = 8


class NoExamplesError(DataError):
    """The files of a split are valid but contain no example of it, because one file has several splits."""


@dataclass(frozen=True, slots=True)
class Layout:
    """One family of layouts: its loader and the possible roles of a split."""

    load: str  # "module:function"
    files: tuple[str, ...]  # annotation files; those in the YAML must exist
    optional: tuple[str, ...] = ()  # annotation files that are read if they exist
    media: tuple[str, ...] = ()  # folders of pictures or clips
    words: tuple[str, ...] = ()  # not files: names inside a file, patterns of file names
    any_of: tuple[str, ...] = ()  # at least one of these (files or folders) must exist
    options: tuple[str, ...] = ()  # data.options that the loader reads

    @property
    def roles(self) -> tuple[str, ...]:
        """Every possible role of a split."""
        return tuple(dict.fromkeys((*self.files, *self.optional, *self.media, *self.words, *self.any_of)))


@dataclass(slots=True)
class Source:
    """One split of one task on disk: finds its files by role and records which were read."""

    task: TaskSpec
    root: Path
    split: str
    layout: Layout
    with_media: bool = True
    images: tuple[Path, ...] = ()  # folders of pictures and clips that are searched before those of the roles
    read: list[Path] = field(default_factory=list)
    log: ProblemLog = field(default_factory=ProblemLog)
    _pictures: dict[tuple[MediaFolders, tuple[str, ...]], tuple[Image, ...]] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """The name of the split in messages."""
        return f"{self.task.name}, split '{self.split}'"

    def words(self, role: str) -> tuple[str, ...]:
        """The words of this split for `role` in the YAML."""
        return self.task.data.splits[self.split].get(role, ())

    def option(self, name: str, default: str = "") -> str:
        """One of data.options."""
        return self.task.data.options.get(name, default)

    def look(self, role: str) -> tuple[Path, ...]:
        """The files of a role: the first alternative that exists, which may be a pattern; otherwise empty."""
        for name in self.words(role):
            files = [path for path in self._paths(name) if path.is_file()]
            if files:
                return tuple(files)
        return ()

    def _paths(self, name: str) -> list[Path]:
        if "*" not in name:
            return [on_disk(self.root, name)]
        folder, _, pattern = name.rpartition("/")
        if "*" in folder:
            return sorted(self.root.glob(name))
        return sorted(on_disk(self.root, folder).glob(pattern)) if folder else sorted(self.root.glob(pattern))

    def optional_file(self, role: str) -> Path | None:
        """The file of a role if it exists; it is then recorded as read."""
        files = self.look(role)
        self.read += files[:1]
        return files[0] if files else None

    def file(self, role: str) -> Path:
        """The file of a required role."""
        path = self.optional_file(role)
        if path is None:
            raise DataError(f"{self.title}: {self._not_found([role])[0]}", fix=self._what_to_do())
        return path

    def missing(self) -> list[str]:
        """One sentence for each annotation role without a file; empty when the split is on disk."""
        missing_roles = [role for role in self.layout.files if self.words(role) and not self.look(role)]
        sentences = self._not_found(missing_roles)
        any_of = [role for role in self.layout.any_of if self.words(role)]
        if any_of and not any(self.look(role) or self.folders(role).existing for role in any_of):
            names = ", ".join(name for role in any_of for name in self.words(role))
            sentences.append(f"none of {' / '.join(any_of)} exists: tried {names}.")
        return sentences

    def check(self) -> None:
        """Raise DataError with every missing annotation file, the tried names and the folder's contents."""
        if not self.root.is_dir():
            raise DataError(f"{self.title}: the data folder {self.root} does not exist.", fix=self._what_to_do())
        missing = self.missing()
        if missing:
            raise DataError("\n  ".join([f"{self.title}: files are missing", *missing]), fix=self._what_to_do())

    def folders(self, role: str, beside: Sequence[Path] = ()) -> MediaFolders:
        """The folders of a media role; `beside` are those of the annotation files, searched last."""
        return MediaFolders(self.root, self.words(role), beside, self.images)

    def image(self, folders: MediaFolders, *names: str) -> tuple[Image, ...]:
        """The picture with one of these names, as an example's media, shared by its rows; empty without media."""
        if not self.with_media:
            return ()
        key = folders, names
        if key not in self._pictures:
            self._pictures[key] = (Image(folders.find(names, IMAGE_SUFFIXES)),)
        return self._pictures[key]

    def clip(
        self,
        folders: MediaFolders,
        names: Iterable[str],
        start: float | None = None,
        end: float | None = None,
        maybe_cut: bool = False,
    ) -> tuple[Video, ...]:
        """The clip with one of these names, limited to start..end seconds, as an example's media."""
        if not self.with_media:
            return ()
        return (Video(folders.find(tuple(names), VIDEO_SUFFIXES), start, end, maybe_cut),)

    def finish(
        self,
        examples: Sequence[Example],
        candidates: tuple[str, ...] = (),
        labelled: bool = True,
        why_empty: str = "",
    ) -> Split:
        """The split, if its files have no problems. Raises DataError with all problems otherwise."""
        self.log.raise_if_any(self.title)
        if not examples:
            names = ", ".join(str(path) for path in dict.fromkeys(self.read)) or str(self.root)
            raise NoExamplesError(f"{self.title}: no examples in {names}. {why_empty}".rstrip())
        return Split(self.split, tuple(examples), tuple(dict.fromkeys(self.read)), candidates, labelled)

    def _not_found(self, roles: Sequence[str]) -> list[str]:
        return [f"no {role} file: tried {', '.join(self.words(role))} in {self.root}." for role in roles]

    def _what_to_do(self) -> str:
        entries = sorted(os.listdir(self.root)) if self.root.is_dir() else []
        names = ", ".join(entries[:SHOWN_NAMES]) + (
            f" and {len(entries) - SHOWN_NAMES} more" * (len(entries) > SHOWN_NAMES)
        )
        listing = f"There: {names}. " if entries else ""
        source = f"Data: {self.task.data.source}" if self.task.data.source else "Give its folder with --data."
        return f"{listing}{source}"


def check_roles(task: TaskSpec, layout: Layout) -> None:
    """Raise ConfigError for unknown roles and options of the task's layout, and for a split that is not defined."""
    data = task.data
    problems = []
    for split, roles in data.splits.items():
        problems += [
            f"data.splits.{split}: layout '{data.layout}' has no role '{role}'. "
            f"{did_you_mean(role, layout.roles) or 'It has: ' + ', '.join(layout.roles) + '.'}"
            for role in roles
            if role not in layout.roles
        ]
    problems += [
        f"data.options: layout '{data.layout}' has no option '{name}'. "
        f"{did_you_mean(name, layout.options) or 'It has: ' + (', '.join(layout.options) or 'none') + '.'}"
        for name in data.options
        if name not in layout.options
    ]
    problems += [
        f"data.{key}: split '{split}' is not among data.splits ({', '.join(data.splits)})."
        for key, split in (("query", data.query), ("support", data.support))
        if split is not None and split not in data.splits
    ]
    if problems:
        raise ConfigError("\n  ".join([f"task '{task.name}': {len(problems)} problems", *problems]))
