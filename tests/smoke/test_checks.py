"""smoke: every check passes on the bundled model, and each fails on a model that has what it looks for."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner

from flamingo_eval.api import Model
from flamingo_eval.cli import app
from flamingo_eval.cli.smoke import NAMES
from flamingo_eval.errors import ExpectationError
from flamingo_eval.models import TINY_FOLDER
from flamingo_eval.records import Answer
from flamingo_eval.smoke import checks
from flamingo_eval.smoke.checks import CHECKS, Bench, CheckFailedError, CheckResult, run_checks, sign_test
from flamingo_eval.smoke.junit import junit_xml


def test_the_command_names_the_checks_that_there_are() -> None:
    assert tuple(CHECKS) == NAMES


@pytest.mark.slow
def test_the_bundled_model_passes_all(tmp_path: Path) -> None:
    results = list(run_checks(Bench("tiny", tmp_path, "cpu", "float32")))
    assert [(r.name, r.status) for r in results] == [(name, "passed") for name in NAMES], results


class Changed:
    """The tiny model's engine with its answers changed by a function of (index, answer)."""

    def __init__(self, model: Model, change: Callable[[int, Answer], Answer]) -> None:
        self.engine, self.change = model.engine, change
        self.name, self.sha256, self.device, self.dtype = "changed", "unknown", model.device, model.dtype

    def generate(self, prompts: Any, spec: Any) -> Any:
        for i, answer in self.engine.generate(prompts, spec):
            yield i, self.change(i, answer)

    def score(self, prompts: Any, candidates: Any, spec: Any) -> Any:
        for i, answer in self.engine.score(prompts, candidates, spec):
            yield i, self.change(i, answer)


def bench_of(change: Callable[[int, Answer], Answer], folder: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr(checks, "QUERIES", 6)
    bench = Bench("tiny", folder, "cpu", "float32")
    model = bench.model
    assert isinstance(model, Model)
    bench.__dict__["model"] = Changed(model, change)
    return bench


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("answers", lambda i, a: replace(a, text=""), "all 6 answers are empty"),
        ("pictures", lambda i, a: replace(a, text="yes"), "shuffled query pictures change 0 of 6 answers"),
        ("ranks", lambda i, a: replace(a, scores=(-1.0, -2.0)), "all 12 queries have the same scores"),
    ],
)
def test_each_fault_fails_its_check(
    name: str, change: Callable[[int, Answer], Answer], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = bench_of(change, tmp_path, monkeypatch)
    with pytest.raises(CheckFailedError, match=message):
        CHECKS[name](bench)


@pytest.mark.slow
def test_texts_that_hang_on_the_batch_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = iter(range(1000))
    bench = bench_of(lambda i, a: replace(a, text=f"{a.text} {next(calls)}"), tmp_path, monkeypatch)
    with pytest.raises(CheckFailedError, match="6 of 6 answers differ between batch size 1 and 16"):
        checks.batches(bench)


@pytest.mark.slow
def test_a_model_that_ignores_its_shots_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "BINDING", 4)
    bench = bench_of(lambda i, a: replace(a, text="dax"), tmp_path, monkeypatch)
    with pytest.raises(CheckFailedError, match=r"with their labels exchanged \(p .*--skip shots"):
        checks.uses_shots(bench)


@pytest.mark.slow
def test_a_peak_above_the_limit_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = bench_of(lambda i, a: a, tmp_path, monkeypatch)
    bench.max_memory_gb = 0.01
    with pytest.raises(CheckFailedError, match=r"above 0\.01 GB"):
        checks.stays_in_memory(bench)


def test_a_checkpoint_that_lacks_a_tensor_fails_to_load_and_the_rest_is_skipped(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(TINY_FOLDER, folder)
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:1000])
    junit = tmp_path / "smoke.xml"
    result = CliRunner().invoke(app, ["smoke", "--model", str(folder), "--junit", str(junit), "--json"])
    assert isinstance(result.exception, ExpectationError)
    assert result.exception.exit_code == 4
    statuses = {c["name"]: c["status"] for c in json.loads(result.stdout)["checks"]}
    assert statuses == {"loads": "failed"} | dict.fromkeys(NAMES[1:], "skipped")
    suite = ElementTree.parse(junit).getroot()[0]
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("8", "1", "7")


def test_junit_holds_any_text() -> None:
    results = [
        CheckResult("loads", "failed", 'broken <&>"\u202e\x07\nsecond line', 0.1),
        CheckResult("answers", "passed", "fine", 0.2),
    ]
    suite = ElementTree.fromstring(junit_xml(results, "m")).find("testsuite")
    assert suite is not None
    failure = suite.find("testcase/failure")
    assert failure is not None
    assert (failure.get("message") or "").startswith('broken <&>"')


def test_the_sign_test_is_exact() -> None:
    assert sign_test(0, 0) == 1.0
    assert sign_test(5, 0) == 1 / 32
    assert sign_test(1, 1) == 0.75
