"""Folders of pictures and clips: finds the file for a name.

Downloads are nested or flat, with or without suffixes, with folders in upper or lower case. Each folder is listed once;
no file is opened.
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
MAX_SUBFOLDERS = 64  # maximum of sub-folders of --images that are searched
COCO_SUBSETS = ("train2014", "val2014", "test2014", "test2015", "train2017", "val2017", "test2017")
_COCO_2014 = re.compile(r"COCO_(?:train|val|test)20\d\d_(\d{12}\.\w+)")


class MediaFolders:
    """Finds pictures and clips in the first of several folders that contains them."""

    def __init__(
        self, root: Path, names: Sequence[str], beside: Sequence[Path] = (), images: Sequence[Path] = ()
    ) -> None:
        """`names`: folders below the root; `images`: folders searched first; `beside`: folders searched last."""
        self.root, self.names, self.images = root, tuple(names), tuple(images)
        self.candidates = tuple(on_disk(root, name) for name in names) or (root,)
        from_images = [folder for image in images for folder in _searched(image, names)]
        self.existing = tuple(f for f in dict.fromkeys((*from_images, *self.candidates, *beside)) if f.is_dir())
        self.expected = next((folder for folder in (*images, *self.candidates) if folder.is_dir()), self.candidates[0])
        self._listing, self._below = cache(_Listing), cache(on_disk)

    def find(self, names: Sequence[str], suffixes: tuple[str, ...]) -> Path:
        """The path of the first of `names` that a folder has: under exactly that name, else with one of `suffixes`.

        A name may contain a sub-folder (`val/1.jpg`); if no folder has it, the file itself is searched (`1.jpg`).
        COCO's pictures are found under their names of 2014 and 2017. A missing file gets its expected path, with the
        first name; the media check and the decoder report it.
        """
        flat = (last for name in names if (last := self._flat(name)))
        path = self._first((*names, *flat), self.existing, suffixes) or self._coco_2017(names, suffixes)
        return path or self.expected / names[0]

    def _first(self, names: Sequence[str], folders: Sequence[Path], suffixes: tuple[str, ...]) -> Path | None:
        for name in names:
            parent, _, last = name.rpartition("/")
            for folder in folders:
                sub_folder = self._below(folder, parent) if parent else folder
                path = self._listing(sub_folder).find(last, suffixes)
                if path is not None:
                    return sub_folder / path
        return None

    def _flat(self, name: str) -> str:
        """The last part of a name whose sub-folder no folder has; otherwise empty."""
        parent, _, last = name.rpartition("/")
        return (
            last
            if parent and not any(self._listing(self._below(folder, parent)).exists for folder in self.existing)
            else ""
        )

    def _coco_2017(self, names: Sequence[str], suffixes: tuple[str, ...]) -> Path | None:
        """COCO_val2014_000000391895.jpg is 000000391895.jpg since 2017, when val2014 was divided differently."""
        numbers = [match[1] for name in names if (match := _COCO_2014.fullmatch(name.rpartition("/")[2]))]
        return self._first(numbers, (*self.existing, *self._coco_folders), suffixes) if numbers else None

    @cached_property
    def _coco_folders(self) -> tuple[Path, ...]:
        """train2017 and val2017, next to the folders of 2014, or in the same folder for all."""
        parents = (on_disk(self.root, name).parent for name in self.names if name.endswith(("2014", "2015")))
        roots = dict.fromkeys((*parents, *self.existing))
        folders = (on_disk(root, subset) for root in roots for subset in COCO_SUBSETS)
        return tuple(folder for folder in folders if folder.is_dir())


class _Listing:
    """The file names of one folder, by name and by stem."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            self.names = frozenset(os.listdir(folder))
            self.exists = True
        except (OSError, ValueError):  # missing, or not a valid name of a folder
            self.names, self.exists = frozenset(), False
        self._by_stem = cache(self._stems)

    def find(self, name: str, suffixes: tuple[str, ...]) -> str | None:
        """The file of this name, or of this stem; for several, the first suffix in `suffixes` wins."""
        if name in self.names and (name.lower().endswith(suffixes) or (self.folder / name).is_file()):
            return name
        return self._by_stem(suffixes).get(name)

    def _stems(self, suffixes: tuple[str, ...]) -> dict[str, str]:
        names = sorted(entry for entry in self.names if entry.lower().endswith(suffixes))
        names.sort(key=lambda name: suffixes.index(os.path.splitext(name)[1].lower()), reverse=True)
        return {os.path.splitext(name)[0]: name for name in names}


def _searched(images: Path, names: Sequence[str]) -> list[Path]:
    """The folders to search for --images: the usual folders inside it, itself, and its sub-folders if few."""
    usual = [on_disk(images, name) for name in names if name != "."]
    sub_folders = sorted(entry for entry in images.iterdir() if entry.is_dir() and not is_hidden(entry.name))
    return [*usual, images, *(sub_folders if len(sub_folders) <= MAX_SUBFOLDERS else ())]


def is_hidden(name: str) -> bool:
    """Whether a name is from another program: `.ipynb_checkpoints`, `._1.jpg`, `__MACOSX`."""
    return name.startswith(".") or name == "__MACOSX"


def on_disk(root: Path, name: str) -> Path:
    """The path `root/name`; if it does not exist, one that differs only in upper and lower case."""
    path = root / name
    if not why_missing(path):
        return path
    folder = root
    for part in PurePosixPath(name).parts:
        exact = folder / part
        if why_missing(exact):
            try:
                actual_name = _by_lower_case(folder, folder.stat().st_mtime_ns).get(part.lower())
            except OSError:
                actual_name = None
            if actual_name is None:
                return path
            exact = folder / actual_name
        folder = exact
    return folder


@lru_cache(maxsize=256)
def _by_lower_case(folder: Path, mtime_ns: int) -> dict[str, str]:
    """Names in a folder by their lower-case form. `mtime_ns` is part of the key: a changed folder is listed again."""
    del mtime_ns
    return {name.lower(): name for name in sorted(os.listdir(folder), reverse=True)}
