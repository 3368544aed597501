"""A run as the harnesses' per-sample log, and their spellings of three options."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from flamingo_eval.cli import app
from flamingo_eval.runs.folder import find_runs, read_outputs
from flamingo_eval.runs.record import read_scores


def flamingo_eval(*words: str | Path) -> str:
    result = CliRunner().invoke(app, [str(word) for word in words])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.slow
@pytest.mark.parametrize("task", ["vqav2", "hateful_memes"])
def test_a_log_is_read_back_to_the_same_score(task: str, tmp_path: Path) -> None:
    flamingo_eval("run", "--tasks", task, "--num_fewshot", "0", "--output_path", tmp_path / "r", "--limit", "8")
    (run,) = find_runs([tmp_path / "r"])
    log = tmp_path / "samples.jsonl"
    flamingo_eval("export", run.path, "--format", "lm-eval-samples", "--out", log)
    lines: list[dict[str, Any]] = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    outputs, _ = read_outputs(run.outputs)
    assert [line["doc"]["id"] for line in lines] == [output.id for output in outputs]
    assert all("<image>" in line["arguments"]["gen_args_0"]["arg_0"] and line["target"] for line in lines)
    text = flamingo_eval("score", task, "--predictions", log, "--queries-of", run.path, "--json")
    assert json.loads(text[text.index("{") :])["value"] == pytest.approx(read_scores(run.scores).headline.value)


@pytest.mark.slow
def test_both_spellings_name_the_tasks(tmp_path: Path) -> None:
    words = ("--num_fewshot", "0", "--limit", "1", "--output_path", tmp_path)
    flamingo_eval("run", "vqav2", "--tasks", "coco,okvqa", *words)
    assert sorted(read_scores(run.scores).task for run in find_runs([tmp_path])) == [
        "coco@sample",
        "okvqa@sample",
        "vqav2@sample",
    ]
