"""Folders of pictures and clips: which file of a download a name stands for.

Downloads are nested or flat, keep or drop suffixes, and spell the usual folders in their own case; each folder is
listed once, nothing is opened.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from functools import cache, cached_property, lru_cache
from pathlib import Path, PurePosixPath

from flamingo_eval.data.media_files import why_missing

IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"),
    *(".jfif", ".jpe", ".avif", ".jp2", ".mpo"),
)
VIDEO_SUFFIXES = (".mp4", ".mkv", ".webm", ".avi", ".mov", ".m4v", ".flv")
MAX_SUBFOLDERS = 64  # of a folder given with --images, that are searched one by one
COCO_SUBSETS = ("train2014", "val2014", "test2014", "test2015", "train2017", "val2017", "test2017")
_COCO_2014 = re.compile(r"COCO_(?:train|val|test)20\d\d_(\d{12}\.\w+)")


class MediaFolders:
    """Finds pictures and clips in the first of several folders that has them."""

    def __init__(
        self, root: Path, names: Sequence[str], beside: Sequence[Path] = (), images: Sequence[Path] = ()
    ) -> None:
        """`names` are folders below the root, `images` others that come first, `beside` others that come last."""
        self.root, self.names, self.images = root, tuple(names), tuple(images)
        self.candidates = tuple(on_disk(root, name) for name in names) or (root,)
        given = [folder for image in images for folder in _searched(image, names)]
        self.existing = tuple(f for f in dict.fromkeys((*given, *self.candidates, *beside)) if f.is_dir())
        self.expected = next((folder for folder in (*images, *self.candidates) if folder.is_dir()), self.candidates[0])
        self._listing, self._below = cache(_Listing), cache(on_disk)

    def find(self, names: Sequence[str], suffixes: tuple[str, ...]) -> Path:
        """The path of the first of `names` that a folder has: under exactly that name, else with one of `suffixes`.

        A name may lie in a sub-folder (`val/1.jpg`); where no folder has that sub-folder, the file itself is looked
        for (`1.jpg`). COCO's pictures are found under their names of 2014 and 2017. What is nowhere gets the path
        where it was expected, under the first name as it was given: the media check and the decoder name it.
        """
        flat = (last for name in names if (last := self._flat(name)))
        found = self._first((*names, *flat), self.existing, suffixes) or self._coco_2017(names, suffixes)
        return found or self.expected / names[0]

    def _first(self, names: Sequence[str], folders: Sequence[Path], suffixes: tuple[str, ...]) -> Path | None:
        for name in names:
            parent, _, last = name.rpartition("/")
            for folder in folders:
                where = self._below(folder, parent) if parent else folder
                found = self._listing(where).find(last, suffixes)
                if found is not None:
                    return where / found
        return None

    def _flat(self, name: str) -> str:
        """The last part of a name in a sub-folder that no folder has; else nothing."""
        parent, _, last = name.rpartition("/")
        return (
            last
            if parent and not any(self._listing(self._below(folder, parent)).exists for folder in self.existing)
            else ""
        )

    def _coco_2017(self, names: Sequence[str], suffixes: tuple[str, ...]) -> Path | None:
        """COCO_val2014_000000391895.jpg is 000000391895.jpg since 2017, when val2014 was dealt out anew."""
        numbers = [match[1] for name in names if (match := _COCO_2014.fullmatch(name.rpartition("/")[2]))]
        return self._first(numbers, (*self.existing, *self._coco_folders), suffixes) if numbers else None

    @cached_property
    def _coco_folders(self) -> tuple[Path, ...]:
        """train2017 and its like, where they lie as those of 2014 do: beside them, or in the same folder for all."""
        beside = (on_disk(self.root, name).parent for name in self.names if name.endswith(("2014", "2015")))
        places = dict.fromkeys((*beside, *self.existing))
        folders = (on_disk(place, subset) for place in places for subset in COCO_SUBSETS)
        return tuple(folder for folder in folders if folder.is_dir())


class _Listing:
    """The file names of one folder, by name and by stem."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            self.names = frozenset(os.listdir(folder))
            self.exists = True
        except (OSError, ValueError):  # there is none, or its name is no name of a folder
            self.names, self.exists = frozenset(), False
        self._by_stem = cache(self._stems)

    def find(self, name: str, suffixes: tuple[str, ...]) -> str | None:
        """The file of this name, or of this stem; where several share a stem, the first suffix of `suffixes` wins."""
        if name in self.names and (name.lower().endswith(suffixes) or (self.folder / name).is_file()):
            return name
        return self._by_stem(suffixes).get(name)

    def _stems(self, suffixes: tuple[str, ...]) -> dict[str, str]:
        names = sorted(entry for entry in self.names if entry.lower().endswith(suffixes))
        names.sort(key=lambda name: suffixes.index(os.path.splitext(name)[1].lower()), reverse=True)
        return {os.path.splitext(name)[0]: name for name in names}


def _searched(images: Path, names: Sequence[str]) -> list[Path]:
    """A folder given with --images: the usual folders inside it, itself, and its sub-folders where they are few."""
    usual = [on_disk(images, name) for name in names if name != "."]
    inside = sorted(entry for entry in images.iterdir() if entry.is_dir() and not is_hidden(entry.name))
    return [*usual, images, *(inside if len(inside) <= MAX_SUBFOLDERS else ())]


def is_hidden(name: str) -> bool:
    """What other programs leave in a folder: `.ipynb_checkpoints`, `._1.jpg`, `__MACOSX`."""
    return name.startswith(".") or name == "__MACOSX"


def on_disk(root: Path, name: str) -> Path:
    """The path `root/name`, or, where nothing lies there, the one that differs from it in upper and lower case."""
    path = root / name
    if not why_missing(path):
        return path
    here = root
    for part in PurePosixPath(name).parts:
        exact = here / part
        if why_missing(exact):
            try:
                near = _by_lower_case(here, here.stat().st_mtime_ns).get(part.lower())
            except OSError:
                near = None
            if near is None:
                return path
            exact = here / near
        here = exact
    return here


@lru_cache(maxsize=256)
def _by_lower_case(folder: Path, mtime_ns: int) -> dict[str, str]:
    """Names in a folder by their lower-case form. `mtime_ns` is part of the key: a changed folder is listed anew."""
    del mtime_ns
    return {name.lower(): name for name in sorted(os.listdir(folder), reverse=True)}
