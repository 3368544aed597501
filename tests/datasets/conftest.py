"""Small downloads in official layouts, written by hand where a test needs them, and tasks as users write them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from flamingo_eval.config import load_task
from flamingo_eval.find import shipped
from flamingo_eval.specs import TaskSpec

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """write("folder/file.json", value): JSON for .json, one object a line for .jsonl, text and bytes as they are."""

    def _write(name: str, value: object = b"") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(value, bytes):
            path.write_bytes(value)
        elif isinstance(value, str):
            path.write_text(value, encoding="utf-8")
        elif name.endswith(".jsonl"):
            path.write_text("".join(json.dumps(row) + "\n" for row in value), encoding="utf-8")
        else:
            path.write_text(json.dumps(value), encoding="utf-8")
        return path

    return _write


@pytest.fixture
def task() -> Callable[[str], TaskSpec]:
    """task("vqav2"): a shipped task."""
    return lambda name: load_task(shipped("tasks") / f"{name}.yaml")
