"""Where a task's files lie: below a folder, in the embedded sample, or in a mirror on the Hub."""

from __future__ import annotations

from pathlib import Path

from flamingo_eval.config.settings import HUB, SAMPLE
from flamingo_eval.errors import DataError
from flamingo_eval.sample import sample_root

HUB_ROOT = Path(HUB)  # stands for the task's mirror on the Hugging Face Hub; the loaders know it


def data_root(choice: str, task: str) -> Path:
    """The folder of one task's files: ROOT/<task> where that exists, else ROOT itself; rendered for the sample."""
    if choice == SAMPLE:
        return sample_root(task)
    if choice == HUB:
        return HUB_ROOT
    root = Path(choice)
    if not root.is_dir():
        raise DataError(f"--data {choice}: there is no such folder.", fix="Give the folder with the downloaded files.")
    inside = root / task
    return inside if inside.is_dir() else root
