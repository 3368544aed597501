"""Where a task's files lie: below a folder, in the embedded sample, or in a mirror on the Hub."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from flamingo_eval.config.settings import FRESH, HUB, SAMPLE
from flamingo_eval.errors import DataError
from flamingo_eval.files import printable
from flamingo_eval.sample import fresh_root, sample_root
from flamingo_eval.sample.fresh.copies import copy_of, recorded_copy

HUB_ROOT = Path(HUB)  # stands for the task's mirror on the Hugging Face Hub; the loaders know it


@dataclass(frozen=True, slots=True)
class DataRoot:
    """The folder of a task's annotation files, and the folders that are searched first for its pictures and clips."""

    folder: Path
    images: tuple[Path, ...] = ()

    @property
    def name(self) -> str:
        """The name of the folder, which a record may hold."""
        return self.folder.name

    def __str__(self) -> str:
        return str(self.folder)


def as_data_root(root: Path | DataRoot) -> DataRoot:
    """A folder alone is a data root without folders of pictures of its own."""
    return root if isinstance(root, DataRoot) else DataRoot(root)


def data_root(choice: str, task: str, images: Sequence[str] = ()) -> DataRoot:
    """The data root of one task: ROOT/<task> where that exists, else ROOT itself; rendered for the sample.

    `images` are further folders of pictures. Raises DataError for a folder that does not exist.
    """
    folders = tuple(_folder("--images", name) for name in images)
    if choice == SAMPLE:
        return DataRoot(sample_root(task), folders)
    if choice.startswith(FRESH):
        return DataRoot(fresh_root(task, choice.removeprefix(FRESH)), folders)
    if choice == HUB:
        return DataRoot(HUB_ROOT, folders)
    root = _folder("--data", choice)
    inside = root / task
    return DataRoot(inside if inside.is_dir() else root, folders)


def require_folders(choice: str, images: Sequence[str] = ()) -> None:
    """Whether a data choice and further folders of pictures are there. Raises DataError."""
    for name in images:
        _folder("--images", name)
    if choice not in (SAMPLE, HUB) and not choice.startswith(FRESH):
        _folder("--data", choice)


def _folder(option: str, name: str) -> Path:
    folder = Path(name)
    if not folder.is_dir():
        what = "it is a file" if folder.is_file() else "there is no such folder"
        which = "the downloaded files" if option == "--data" else "the pictures"
        raise DataError(f"{option} {name}: {what}.", fix=f"Give the folder with {which}.")
    return folder


def data_name(choice: str, task: str) -> str:
    """What a record calls the data: `sample`, `sample:7` with its dials, `hub`, or the name of the folder.

    A folder that `flamingo-eval sample` wrote is called by what it holds, so that it never passes for the benchmark.
    """
    if choice == SAMPLE:
        return choice
    if choice.startswith(FRESH):
        return f"{FRESH}{copy_of(task, choice.removeprefix(FRESH)).name}"
    root = Path(choice)
    written = recorded_copy(root, task) or recorded_copy(root / task, task)
    return f"{FRESH}{written}" if written else printable(root.name)
