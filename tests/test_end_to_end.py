"""The whole line with the bundled checkpoint and the embedded sample: nothing changes the answers but the pictures."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from flamingo_eval.cli import app
from flamingo_eval.config.names import task_names

LIMIT = 24


def command(out: Path, *words: str) -> list[str]:
    return ["run", "vqav2", "--shots", "4", "--out", str(out), *words]


def run(out: Path, *words: str) -> dict[str, Any]:
    done = CliRunner().invoke(app, [*command(out, *words), "--json"])
    assert done.exit_code == 0, (done.stderr, done.exception)
    value: dict[str, Any] = json.loads(done.stdout)["runs"][0]
    return value


def outputs(out: Path) -> str:
    (path,) = out.rglob("outputs.jsonl")
    return path.read_text()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole")
    run(out, "--limit", str(LIMIT), "--batch-size", "1")
    return out


@pytest.mark.slow
def test_the_batch_size_changes_nothing(whole: Path, tmp_path: Path) -> None:
    run(tmp_path, "--limit", str(LIMIT), "--batch-size", "16")
    assert outputs(tmp_path) == outputs(whole)
    (one,), (two,) = whole.rglob("scores.json"), tmp_path.rglob("scores.json")
    assert one.read_text() == two.read_text()


def test_a_limit_changes_nothing(whole: Path, tmp_path: Path) -> None:
    run(tmp_path, "--limit", "10")
    lines = outputs(tmp_path).splitlines()
    assert len(lines) == 10
    assert set(lines) <= set(outputs(whole).splitlines())


@pytest.mark.slow
def test_a_killed_run_goes_on_where_it_stopped(whole: Path, tmp_path: Path) -> None:
    """SIGKILL once some queries are on disk; the same command ends with the same bytes."""
    words = command(tmp_path, "--limit", str(LIMIT), "--batch-size", "2")
    with subprocess.Popen([sys.executable, "-m", "flamingo_eval", *words], stderr=subprocess.DEVNULL) as process:
        until = time.monotonic() + 300
        while process.poll() is None and time.monotonic() < until:
            if any(p.stat().st_size > 0 for p in tmp_path.rglob("outputs.jsonl")):
                break
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    run(tmp_path, "--limit", str(LIMIT), "--batch-size", "2")
    assert outputs(tmp_path) == outputs(whole)
    (record,) = tmp_path.rglob("run.json")
    assert json.loads(record.read_text())["status"] == "complete"


@pytest.mark.slow
def test_the_model_looks_at_the_picture(tmp_path: Path) -> None:
    """With another query's picture, accuracy falls to what the text alone gives, and below what the picture gives."""
    value = {}
    for name in ("", "query-images-shuffled", "query-image-removed"):
        result = run(tmp_path / (name or "plain"), "--limit", "120", *(("--ablation", name) if name else ()))
        value[name] = result["scores"][0]["value"]
    assert value[""] > value["query-images-shuffled"] + 15
    assert value["query-images-shuffled"] < value["query-image-removed"] + 10


@pytest.mark.slow
def test_every_task_runs_on_its_sample(tmp_path: Path) -> None:
    """`run all`: a metric, a count and an interval in every row; what cannot be scored here says what to install."""
    words = ["run", "all", "--shots", "2", "--limit", "6", "--out", str(tmp_path), "--json"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, (done.stderr, done.exception)
    runs = json.loads(done.stdout)["runs"]
    assert {(r["task"], r["shots"]) for r in runs} == {
        (f"{task}@sample", 2)
        for task in task_names()
        if task != "rareact"  # which has no shots
    }
    for run_ in runs:
        head = run_["scores"][0]
        assert (head["n"], head["n_failed"]) == (6, 0), run_["task"]
        if head["unscored"]:
            assert "nltk" in head["why_undefined"].lower()
        else:
            assert head["value"] is not None, head
            if head["ci95"] is None:  # six queries that all scored alike
                assert "so there is no interval" in head["notes"]["bootstrap"], head
            else:
                assert head["ci95"][0] <= head["value"] <= head["ci95"][1]
