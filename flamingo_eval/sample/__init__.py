"""The embedded sample world: small benchmarks in the official layouts, rendered on first use into the user's cache."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from flamingo_eval.config.settings import cache_dir, cache_error
from flamingo_eval.errors import DataError

FILES_VERSION = 3  # version of the files; a higher one makes a new folder in the cache, not another sample
RENDERED = 1_650_000_000  # seconds; any fixed time


def sample_root(task: str) -> Path:
    """The data root of one task's sample, rendered if it does not exist yet.

    Raises DataError if the task has none, RunError if the cache cannot be written.

    It is rendered in a temporary folder and renamed in one step: two processes may do it at once, and an interrupted
    one
    leaves no folder that looks complete.
    """
    from flamingo_eval.sample.benchmarks.table import BUILDERS, build

    if task not in BUILDERS:
        raise DataError(
            f"{task}: this task has no embedded sample.",
            fix=f"Give its files with --data DIR. Samples: {', '.join(sorted(BUILDERS))}.",
        )
    return _rendered(_samples() / task, lambda root: build(task, root))


def fresh_root(task: str, copy: str) -> Path:
    """The data root of a fresh copy of one task, `7` or `7,ways=3`, rendered if it does not exist yet.

    Raises UsageError for an invalid name of a copy, DataError if the task cannot be drawn.
    """
    from flamingo_eval.sample.fresh.copies import copy_of

    fresh_copy = copy_of(task, copy)
    return _rendered(_samples() / "fresh" / fresh_copy.name / task, fresh_copy.write)


def _samples() -> Path:
    """The folder of the cache that holds this version's samples."""
    from flamingo_eval.sample.world.scenes import SAMPLE_VERSION

    return cache_dir() / "sample" / f"{SAMPLE_VERSION}.{FILES_VERSION}"


def _rendered(root: Path, write: Callable[[Path], None]) -> Path:
    """The folder, written next to its place and moved there if it does not exist yet."""
    if root.is_dir():
        return root
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=f".{root.name}-", dir=root.parent))
        try:
            write(part)
            _set_times(part)
            part.chmod(0o755)
            os.replace(part, root)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    except OSError as error:
        if not root.is_dir():  # not another process's finished work: a real problem
            raise cache_error(root.parent, error) from error
    return root


def _set_times(folder: Path) -> None:
    """Set one time on all files: files that are rendered again are the same, and a run record does not report them
    as changed.
    """
    for path in folder.rglob("*"):
        os.utime(path, (RENDERED, RENDERED))
