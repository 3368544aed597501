"""Where data, models and results come from when the command line does not say: flags, environment, flamingo-eval.yaml.

Later wins: flamingo-eval.yaml in the current folder, then FLAMINGO_EVAL_DATA, then the command line.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from flamingo_eval.config.load import load_spec
from flamingo_eval.errors import ConfigError, RunError

SAMPLE = "sample"
HUB = "hub"
FRESH = f"{SAMPLE}:"  # `sample:7`, `sample:7,ways=3`: a copy drawn anew from a seed, with dials
SETTINGS_FILE = Path("flamingo-eval.yaml")


@dataclass(frozen=True, slots=True)
class Settings:
    """Defaults of a project folder, in flamingo-eval.yaml."""

    data: str = SAMPLE
    images: tuple[str, ...] = ()  # folders of pictures and clips besides those of the data root
    model: str = "tiny"
    protocol: str = ""  # empty: the model decides: chat with a chat template, flamingo otherwise
    out: str = "results"
    cache_gb: float = 20.0  # of visual tokens, and again of RICES features; what was used longest ago goes first

    def __post_init__(self) -> None:
        if not 0 <= self.cache_gb < 1e9:
            raise ValueError("cache_gb must be a size in GB, 0 or more")


def load_settings() -> Settings:
    """The settings of the current folder; the defaults where there is no file."""
    return load_spec(SETTINGS_FILE, Settings) if SETTINGS_FILE.is_file() else Settings()


def data_choice(given: str | None) -> str:
    """The data root the user chose: a folder, `hub`, or `sample`."""
    return given or os.environ.get("FLAMINGO_EVAL_DATA") or load_settings().data


def image_folders(given: Sequence[str] | None) -> tuple[str, ...]:
    """Further folders of pictures and clips: the command line's, else the settings'."""
    return tuple(given) if given else load_settings().images


def is_sample(data: str) -> bool:
    """Whether a data choice is drawn by this package: the embedded sample, or a fresh copy."""
    return data == SAMPLE or data.startswith(FRESH)


def cache_bytes() -> int:
    """How much the vision cache, and again the feature cache, may hold: FLAMINGO_EVAL_CACHE_GB, else the settings'."""
    given = os.environ.get("FLAMINGO_EVAL_CACHE_GB")
    if not given:
        return int(load_settings().cache_gb * 1e9)
    try:
        return int(Settings(cache_gb=float(given)).cache_gb * 1e9)
    except ValueError as error:
        raise ConfigError(
            f"FLAMINGO_EVAL_CACHE_GB={given}: not a size in GB.", fix="Give a number, such as 20."
        ) from error


def cache_dir() -> Path:
    """Where rendered samples and features are kept: FLAMINGO_EVAL_CACHE, else the user's cache folder."""
    given = os.environ.get("FLAMINGO_EVAL_CACHE")
    if given:
        return Path(given)
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "flamingo-eval"


def cache_error(folder: Path, error: Exception) -> RunError:
    """What to say when the cache cannot be written: a full or read-only disk, a file in its place."""
    why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return RunError(
        f"{folder}: the cache cannot be written: {why}.",
        fix="Free some space there, or name another folder in FLAMINGO_EVAL_CACHE.",
    )
