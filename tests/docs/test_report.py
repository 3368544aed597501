"""docs/report.md: its commands run as they stand there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import flamingo_eval
from flamingo_eval.cli import app
from flamingo_eval.config.specs import ModelIdentity
from flamingo_eval.runs.backend import Backend

PAGE = (Path(__file__).parents[2] / "docs" / "report.md").read_text(encoding="utf-8")
COMMANDS = [
    line.partition("#")[0].strip()
    for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    for line in block.splitlines()
]


def test_the_page_has_commands() -> None:
    assert len(COMMANDS) >= 8


@pytest.mark.slow
def test_commands_of_the_page_run(
    make_run: Any, vqa_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, saying_engine: Any
) -> None:
    runs = {"A": str(make_run("red", shots=0).path), "B": str(make_run("1", shots=4).path), "/data": str(vqa_root)}
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FLAMINGO_EVAL_CACHE", str(tmp_path / "cache"))
    backend = Backend(ModelIdentity("m", "c0ffee", "cpu", "float32"), saying_engine(lambda prompt: "red"))
    monkeypatch.setattr("flamingo_eval.runs.repeat.load_backend", lambda *_: backend)
    for command in COMMANDS:
        program, *words = shlex.split(command)
        assert program == "flamingo-eval"
        result = CliRunner().invoke(app, [runs.get(w, w) for w in words])
        assert result.exit_code == 0, (command, result.output, result.exception)
    assert (tmp_path / "report.html").is_file()
    assert (tmp_path / "figure.svg").is_file()


def test_the_notebook_example_runs(make_run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_run("red", shots=0)
    make_run("1", shots=4)
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    names: dict[str, Any] = {"flamingo_eval": flamingo_eval}
    exec(code, names)
    assert len(names["scores"]) == 2
    assert len(names["queries"]) == 24
