"""The data root of a task: a folder, the embedded sample, or a mirror on the Hub."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from flamingo_eval.config.settings import FRESH, HUB, SAMPLE, existing_folder
from flamingo_eval.files import printable
from flamingo_eval.sample import fresh_root, sample_root
from flamingo_eval.sample.fresh.copies import copy_of, recorded_copy

HUB_ROOT = Path(HUB)  # placeholder for the task's mirror on the Hugging Face Hub


@dataclass(frozen=True, slots=True)
class DataRoot:
    """The folder of a task's annotation files, and the folders that are searched first for its pictures and clips."""

    folder: Path
    images: tuple[Path, ...] = ()

    @property
    def name(self) -> str:
        """The name of the folder, for records."""
        return self.folder.name

    def __str__(self) -> str:
        return str(self.folder)


def as_data_root(root: Path | DataRoot) -> DataRoot:
    """A folder as a data root without additional folders of pictures."""
    return root if isinstance(root, DataRoot) else DataRoot(root)


def data_root(choice: str, task: str, images: Sequence[str] = ()) -> DataRoot:
    """The data root of one task: ROOT/<task> if it exists, otherwise ROOT itself; rendered for the sample.

    `images`: additional folders of pictures. Raises DataError for a folder that does not exist.
    """
    folders = tuple(existing_folder("--images", name) for name in images)
    if choice == SAMPLE:
        return DataRoot(sample_root(task), folders)
    if choice.startswith(FRESH):
        return DataRoot(fresh_root(task, choice.removeprefix(FRESH)), folders)
    if choice == HUB:
        return DataRoot(HUB_ROOT, folders)
    root = existing_folder("--data", choice)
    task_folder = root / task
    return DataRoot(task_folder if task_folder.is_dir() else root, folders)


def data_name(choice: str, task: str) -> str:
    """The data's name in a record: `sample`, `sample:7` with its dials, `hub`, or the name of the folder.

    A folder written by `flamingo-eval sample` has the name of the copy, so that it is not taken for the benchmark.
    """
    if choice == SAMPLE:
        return choice
    if choice.startswith(FRESH):
        return f"{FRESH}{copy_of(task, choice.removeprefix(FRESH)).name}"
    root = Path(choice)
    copy_name = recorded_copy(root, task) or recorded_copy(root / task, task)
    return f"{FRESH}{copy_name}" if copy_name else printable(root.name)
