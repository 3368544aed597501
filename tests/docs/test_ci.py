"""docs/ci.md: the workflow is YAML of the right shape, and its commands and the page's run."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from flamingo_eval.cli import app

PAGE = (Path(__file__).parents[2] / "docs" / "ci.md").read_text(encoding="utf-8")


def workflow() -> dict[str, Any]:
    (text,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    value: dict[str, Any] = yaml.safe_load(text)
    return value


def commands() -> list[list[str]]:
    lines = [line for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]
    lines += [step["run"] for step in workflow()["jobs"]["smoke"]["steps"] if "run" in step]
    own = dict.fromkeys(line for line in lines if line.startswith("flamingo-eval"))  # the workflow repeats some
    return [shlex.split(line) for line in own]


def test_the_workflow_is_one_job_of_known_steps() -> None:
    (job,) = workflow()["jobs"].values()
    assert job["runs-on"]
    assert all(set(step) <= {"uses", "with", "run", "if", "name"} for step in job["steps"])
    assert sum("run" in step for step in job["steps"]) == 3
    used = [step["uses"] for step in job["steps"] if "uses" in step]
    assert any(name.startswith("actions/cache@") for name in used)


@pytest.mark.slow
def test_the_commands_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    base = "run vqav2 --shots 4 --limit 20 --out results/base"
    assert CliRunner().invoke(app, base.split()).exit_code == 0
    for program, *words in commands():
        assert program == "flamingo-eval"
        if words[0] == "smoke":  # tests/smoke/test_checks.py runs its checks
            continue
        if words[0] == "diff":  # one run each: the page's command compares two folders with one run
            again = CliRunner().invoke(app, [*base.split()[:-1], "results/again"])
            assert again.exit_code == 0
            words = [word.replace("results/ci", "results/again") for word in words]
        result = CliRunner().invoke(app, words)
        assert result.exit_code == 0, (words, result.output, result.exception)
    assert ["flamingo-eval", "smoke", "--model", "tiny", "--junit", "smoke.xml"] in commands()
