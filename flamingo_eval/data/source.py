"""Where the files of a split lie: roles of the task YAML -> paths below the data root.

A role lists alternatives (renamed releases, nested or flat folders); the first that exists is read. Annotation files
are found before anything is read, all missing ones are named at once. Media are never opened here: folders.py says
which file a name stands for.
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
    """The files of a split are fine and hold no example of it: one file serves several splits."""


@dataclass(frozen=True, slots=True)
class Layout:
    """One family of layouts: its loader and the roles that a split of it may have."""

    load: str  # "module:function"
    files: tuple[str, ...]  # annotation files; those that the YAML gives a split must exist
    optional: tuple[str, ...] = ()  # annotation files that are read if they are there
    media: tuple[str, ...] = ()  # folders of pictures or clips
    words: tuple[str, ...] = ()  # not files: names inside a file, patterns of file names
    any_of: tuple[str, ...] = ()  # at least one of these (files or folders) must exist
    options: tuple[str, ...] = ()  # data.options that the loader reads

    @property
    def roles(self) -> tuple[str, ...]:
        """Every role a split may have."""
        return tuple(dict.fromkeys((*self.files, *self.optional, *self.media, *self.words, *self.any_of)))


@dataclass(slots=True)
class Source:
    """One split of one task on disk: finds its files by role and remembers which were read."""

    task: TaskSpec
    root: Path
    split: str
    layout: Layout
    with_media: bool = True
    images: tuple[Path, ...] = ()  # folders of pictures and clips that are searched before those of the roles
    read: list[Path] = field(default_factory=list)
    log: ProblemLog = field(default_factory=ProblemLog)

    @property
    def title(self) -> str:
        """The name of the split in messages."""
        return f"{self.task.name}, split '{self.split}'"

    def words(self, role: str) -> tuple[str, ...]:
        """What the YAML gives this split under `role`."""
        return self.task.data.splits[self.split].get(role, ())

    def option(self, name: str, default: str = "") -> str:
        """One of data.options."""
        return self.task.data.options.get(name, default)

    def look(self, role: str) -> tuple[Path, ...]:
        """The files of a role: the first alternative that exists, which may be a pattern of several; else nothing."""
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
        """The file of a role if it is there; it is then part of what was read."""
        found = self.look(role)
        self.read += found[:1]
        return found[0] if found else None

    def file(self, role: str) -> Path:
        """The file of a role that must be there."""
        path = self.optional_file(role)
        if path is None:
            raise DataError(f"{self.title}: {self._not_found([role])[0]}", fix=self._what_to_do())
        return path

    def missing(self) -> list[str]:
        """One sentence for each annotation role without a file; empty when the split is on disk."""
        declared = [role for role in self.layout.files if self.words(role) and not self.look(role)]
        sentences = self._not_found(declared)
        any_of = [role for role in self.layout.any_of if self.words(role)]
        if any_of and not any(self.look(role) or self.folders(role).existing for role in any_of):
            tried = ", ".join(name for role in any_of for name in self.words(role))
            sentences.append(f"none of {' / '.join(any_of)} is there: tried {tried}.")
        return sentences

    def check(self) -> None:
        """DataError that names every missing annotation file, what was tried and what lies in the folder."""
        if not self.root.is_dir():
            raise DataError(f"{self.title}: the data folder {self.root} does not exist.", fix=self._what_to_do())
        missing = self.missing()
        if missing:
            raise DataError("\n  ".join([f"{self.title}: files are missing", *missing]), fix=self._what_to_do())

    def folders(self, role: str, beside: Sequence[Path] = ()) -> MediaFolders:
        """The folders of a media role; `beside` are those of the annotation files, searched last."""
        return MediaFolders(self.root, self.words(role), beside, self.images)

    def image(self, folders: MediaFolders, *names: str) -> tuple[Image, ...]:
        """The picture that has one of these names, as an example's media; nothing when media are not wanted."""
        return (Image(folders.find(names, IMAGE_SUFFIXES)),) if self.with_media else ()

    def clip(
        self,
        folders: MediaFolders,
        names: Iterable[str],
        start: float | None = None,
        end: float | None = None,
        maybe_cut: bool = False,
    ) -> tuple[Video, ...]:
        """The clip that has one of these names, cut to start..end seconds, as an example's media."""
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
        """The split, once nothing is wrong with its files. Raises DataError with all problems otherwise."""
        self.log.raise_if_any(self.title)
        if not examples:
            names = ", ".join(str(path) for path in dict.fromkeys(self.read)) or str(self.root)
            raise NoExamplesError(f"{self.title}: no examples in {names}. {why_empty}".rstrip())
        return Split(self.split, tuple(examples), tuple(dict.fromkeys(self.read)), candidates, labelled)

    def _not_found(self, roles: Sequence[str]) -> list[str]:
        return [f"no {role} file: tried {', '.join(self.words(role))} in {self.root}." for role in roles]

    def _what_to_do(self) -> str:
        there = sorted(os.listdir(self.root)) if self.root.is_dir() else []
        names = ", ".join(there[:SHOWN_NAMES]) + (f" and {len(there) - SHOWN_NAMES} more" * (len(there) > SHOWN_NAMES))
        listing = f"There: {names}. " if there else ""
        source = f"Data: {self.task.data.source}" if self.task.data.source else "Give its folder with --data."
        return f"{listing}{source}"


def check_roles(task: TaskSpec, layout: Layout) -> None:
    """ConfigError for roles and options that the task's layout does not know, and for a split that is not defined."""
    data = task.data
    wrong = []
    for split, roles in data.splits.items():
        wrong += [
            f"data.splits.{split}: layout '{data.layout}' has no role '{role}'. "
            f"{did_you_mean(role, layout.roles) or 'It has: ' + ', '.join(layout.roles) + '.'}"
            for role in roles
            if role not in layout.roles
        ]
    wrong += [
        f"data.options: layout '{data.layout}' has no option '{name}'. "
        f"{did_you_mean(name, layout.options) or 'It has: ' + (', '.join(layout.options) or 'none') + '.'}"
        for name in data.options
        if name not in layout.options
    ]
    wrong += [
        f"data.{use}: split '{split}' is not among data.splits ({', '.join(data.splits)})."
        for use, split in (("query", data.query), ("support", data.support))
        if split is not None and split not in data.splits
    ]
    if wrong:
        raise ConfigError("\n  ".join([f"task '{task.name}': {len(wrong)} problems", *wrong]))
