"""diff --fail-on: exit code 4 with the figures where B is worse, or changed."""

from __future__ import annotations

import json
from typing import Any

from typer.testing import CliRunner

from flamingo_eval.cli import app
from flamingo_eval.errors import ExpectationError, UsageError
from flamingo_eval.records import Prompt


def right(prompt: Prompt) -> str:
    return "1" if int(prompt.id) >= 106 else ["red", "green", "blue", "yellow", "white", "black"][int(prompt.id) - 100]


def diff(*words: str) -> Any:
    return CliRunner().invoke(app, ["diff", *words])


def test_a_worse_run_fails_with_its_p_value(make_run: Any) -> None:
    good, bad = make_run(right, model="good").path, make_run("nothing", model="bad").path
    result = diff(str(good), str(bad), "--fail-on", "worse")
    assert isinstance(result.exception, ExpectationError)
    assert result.exception.exit_code == 4
    assert "vqa_accuracy 100.00 -> 0.00 (-100.00, p < 0.001), below 0.05" in str(result.exception)
    assert diff(str(bad), str(good), "--fail-on", "worse").exit_code == 0, "better is not worse"
    assert diff(str(good), str(bad)).exit_code == 0, "without the option nothing fails"


def test_a_drop_within_chance_is_not_worse_but_changed(make_run: Any) -> None:
    base = make_run(right, model="base").path
    near = make_run(lambda p: "nothing" if p.id == "103" else right(p), model="near").path
    assert diff(str(base), str(near), "--fail-on", "worse").exit_code == 0
    result = diff(str(base), str(near), "--fail-on", "changed")
    assert isinstance(result.exception, ExpectationError)
    assert "1 of 12 changed" in str(result.exception)


def test_an_unknown_word_is_a_usage_error(make_run: Any) -> None:
    path = str(make_run(right).path)
    result = diff(path, path, "--fail-on", "worst")
    assert isinstance(result.exception, UsageError)
    assert "Did you mean 'worse'?" in str(result.exception)
    assert diff(path, path, "--fail-on", "changed").exit_code == 0


def test_a_metric_without_an_interval_is_named_as_such(make_run: Any) -> None:
    runs = [make_run(right), make_run("red", out="other")]
    for run, value in zip(runs, (30.0, 28.5), strict=True):
        record = json.loads(run.scores.read_text())
        record["scores"].append({"metric": "meteor", "value": value, "n": 12, "n_failed": 0, "why_undefined": ""})
        run.scores.write_text(json.dumps(record))
    result = diff(*(str(run.path) for run in runs))
    assert "meteor: this metric is not bootstrapped" in result.output
    assert "too few bootstrap draws" not in result.output
