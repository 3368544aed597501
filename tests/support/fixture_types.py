"""Types of the fixtures in tests/conftest.py."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from flamingo_eval.config.specs import TaskSpec
from flamingo_eval.runs.folder import RunFolder

MakeRun = Callable[..., RunFolder]
TaskNamed = Callable[[str], TaskSpec]


class Write(Protocol):
    def __call__(self, name: str, value: object = b"") -> Path: ...
