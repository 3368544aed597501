"""Defaults for data, models and results: flamingo-eval.yaml, environment variables, command line.

The last one wins: flamingo-eval.yaml in the current folder, then FLAMINGO_EVAL_DATA, then the command line.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from flamingo_eval.config.load import load_spec
from flamingo_eval.errors import ConfigError, DataError, RunError

SAMPLE = "sample"
HUB = "hub"
FRESH = f"{SAMPLE}:"  # `sample:7`, `sample:7,ways=3`: a fresh copy from a seed, with dials
SETTINGS_FILE = Path("flamingo-eval.yaml")


@dataclass(frozen=True, slots=True)
class Settings:
    """Defaults of a project folder, in flamingo-eval.yaml."""

    data: str = SAMPLE
    images: tuple[str, ...] = ()  # additional folders of pictures and clips
    model: str = "tiny"
    protocol: str = ""  # empty: the model decides: chat with a chat template, flamingo otherwise
    out: str = "results"
    cache_gb: float = 20.0  # of visual tokens, and of RICES features; the least recently used files are deleted first

    def __post_init__(self) -> None:
        if not 0 <= self.cache_gb < 1e9:
            raise ValueError("cache_gb must be a size in GB, 0 or more")


def load_settings() -> Settings:
    """The settings of the current folder; the defaults if there is no file."""
    return load_spec(SETTINGS_FILE, Settings) if SETTINGS_FILE.is_file() else Settings()


def data_choice(data: str | None) -> str:
    """The data root the user chose: a folder, `hub`, or `sample`."""
    return data or os.environ.get("FLAMINGO_EVAL_DATA") or load_settings().data


def image_folders(folders: Sequence[str] | None) -> tuple[str, ...]:
    """Additional folders of pictures and clips: the command line's, or the settings'."""
    return tuple(folders) if folders else load_settings().images


def is_sample(data: str) -> bool:
    """Whether the data is made by this package: the embedded sample, or a fresh copy."""
    return data == SAMPLE or data.startswith(FRESH)


def require_folders(choice: str, images: Sequence[str] = ()) -> None:
    """Whether a data choice and further folders of pictures are there. Raises DataError."""
    for name in images:
        existing_folder("--images", name)
    if choice not in (SAMPLE, HUB) and not choice.startswith(FRESH):
        existing_folder("--data", choice)


def existing_folder(option: str, name: str) -> Path:
    """The folder that an option names. Raises DataError where there is none."""
    folder = Path(name)
    if not folder.is_dir():
        what = "it is a file" if folder.is_file() else "there is no such folder"
        contents = "the downloaded files" if option == "--data" else "the pictures"
        raise DataError(f"{option} {name}: {what}.", fix=f"Give the folder with {contents}.")
    return folder


def cache_bytes() -> int:
    """Size limit of the vision cache, and of the feature cache: FLAMINGO_EVAL_CACHE_GB, or the settings'."""
    size_text = os.environ.get("FLAMINGO_EVAL_CACHE_GB")
    if not size_text:
        return int(load_settings().cache_gb * 1e9)
    try:
        return int(Settings(cache_gb=float(size_text)).cache_gb * 1e9)
    except ValueError as error:
        raise ConfigError(
            f"FLAMINGO_EVAL_CACHE_GB={size_text}: expected a size in GB.", fix="Give a number, such as 20."
        ) from error


def cache_dir() -> Path:
    """Folder of rendered samples and features: FLAMINGO_EVAL_CACHE, or the user's cache folder."""
    folder = os.environ.get("FLAMINGO_EVAL_CACHE")
    if folder:
        return Path(folder)
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "flamingo-eval"


def cache_error(folder: Path, error: Exception) -> RunError:
    """The error for a cache that cannot be written: a full or read-only disk, a file instead of the folder."""
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return RunError(
        f"{folder}: the cache cannot be written: {reason}.",
        fix="Free some space there, or set FLAMINGO_EVAL_CACHE to another folder.",
    )
