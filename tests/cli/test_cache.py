"""cache info and clear."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from flamingo_eval.cli import app
from flamingo_eval.errors import UsageError


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FLAMINGO_EVAL_CACHE", str(tmp_path))
    for name, size in (("vision/a/1.bin", 100), ("vision/b/2.bin", 50), ("features/media/x.safetensors", 7)):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x" * size)
    (tmp_path / "thesis.tex").write_text("mine")
    return tmp_path


def call(*words: str) -> Any:
    result = CliRunner().invoke(app, ["cache", *words, "--json"])
    assert result.exit_code == 0, result.output
    return {k["kind"]: (k["files"], k["bytes"]) for k in json.loads(result.stdout)["kinds"]}


def test_info_counts_and_touches_nothing(root: Path) -> None:
    assert call() == call("info") == {"sample": (0, 0), "vision": (2, 150), "features": (1, 7)}


def test_clear_removes_one_kind(root: Path) -> None:
    assert call("clear", "vision") == {"vision": (2, 150)}
    assert call("info") == {"sample": (0, 0), "vision": (0, 0), "features": (1, 7)}


def test_clear_leaves_what_is_not_ours(root: Path) -> None:
    call("clear")
    assert sorted(p.name for p in root.iterdir()) == ["thesis.tex"]


def test_a_cache_that_is_not_there_is_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLAMINGO_EVAL_CACHE", str(tmp_path / "none"))
    assert call("clear") == {"sample": (0, 0), "vision": (0, 0), "features": (0, 0)}


@pytest.mark.parametrize(("words", "says"), [(["clera"], "Did you mean 'clear'"), (["clear", "vison"], "'vision'")])
def test_slips_are_caught(root: Path, words: list[str], says: str) -> None:
    result = CliRunner().invoke(app, ["cache", *words])
    assert isinstance(result.exception, UsageError)
    assert says in str(result.exception)
    assert (root / "vision").is_dir()
