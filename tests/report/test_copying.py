"""Shares of copied answers, the scores of copying, and coverage, from finished runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flamingo_eval.report.copying import NOTHING, CopyingAt
from flamingo_eval.report.icl import card_rows, whys
from flamingo_eval.runs.folder import RunFolder, read_outputs

MakeRun = Callable[..., RunFolder]


def figures(folders: list[RunFolder], data: Path | None = None) -> CopyingAt:
    (row,) = card_rows(folders, None if data is None else str(data))
    (at,) = row.copying
    return at


def test_shares_and_scores_are_means_over_queries(make_run: MakeRun) -> None:
    folder = make_run("red", shots=4)
    marks = [o.copying for o in read_outputs(folder.outputs)[0]]
    at = figures([folder])
    assert at.copied.value == pytest.approx(100 * sum(m.any for m in marks if m) / 12)
    assert at.majority.value == pytest.approx(100 * sum(m.majority for m in marks if m) / 12)
    assert at.covered.value == pytest.approx(100 * sum(bool(m.covered) for m in marks if m) / 12)
    assert at.always_last.value == pytest.approx(sum(m.last_score or 0 for m in marks if m) / 12)
    assert at.copied.ci95 is not None
    low, high = at.copied.ci95
    assert low < (at.copied.value or 0) < high


def test_a_copied_answer_is_wrong_where_no_shot_shows_the_right_one(make_run: MakeRun) -> None:
    folder = make_run("red", shots=4)
    outputs, _ = read_outputs(folder.outputs)
    open_ones = [o for o in outputs if o.copying and not o.copying.covered]
    assert open_ones
    assert all(o.score == 0 for o in open_ones if o.copying and o.copying.any)


def test_a_model_that_repeats_the_last_shot_scores_what_the_baseline_scores(make_run: MakeRun) -> None:
    def last_answer(prompt: Any) -> str:
        text = "".join(p for p in prompt.parts if isinstance(p, str))
        return str(text.rsplit("Answer:", 2)[-2].split("Question:")[0].strip().split("\n")[0])

    at = figures([make_run(last_answer, shots=4)])
    assert at.last.value == 100.0
    assert at.score.value == at.always_last.value
    assert at.above_last is not None
    assert at.above_last.difference == 0


def test_seeds_are_averaged(make_run: MakeRun) -> None:
    one, other = make_run("red", shots=4), make_run("red", shots=4, seed=1)
    both = figures([one, other])
    values = [figures([folder]).copied.value or 0.0 for folder in (one, other)]
    assert both.copied.value == pytest.approx(sum(values) / 2)
    assert both.copied.ci95 is not None


def _older(folder: RunFolder) -> None:
    """The folder as versions wrote it that did not record what was copied."""
    lines = [json.loads(line) for line in folder.outputs.read_text().splitlines()]
    for line in lines:
        line.pop("copying", None)
    folder.outputs.write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_older_runs_are_compared_with_the_data_at_hand(make_run: MakeRun, vqa_root: Path) -> None:
    folder = make_run("red", shots=4)
    recorded = figures([folder])
    _older(folder)
    assert figures([folder], vqa_root) == recorded
    (row,) = card_rows([folder])
    assert row.copying[0] == replace(recorded, **_blank(), why=row.copying[0].why)
    assert "--data DIR" in row.copying[0].why
    assert whys([row]) == [f"no figures of copying for vqav2 at 4 shots: {row.copying[0].why}"]


def _blank() -> dict[str, Any]:
    kept = {"shots", "score", "why", "above_majority", "above_last"}
    blank: dict[str, Any] = {name: NOTHING for name in CopyingAt.__dataclass_fields__ if name not in kept}
    return blank | {"above_majority": None, "above_last": None}


def test_an_ablation_of_labels_counts_the_answers_that_were_shown(make_run: MakeRun, vqa_root: Path) -> None:
    folder = make_run("label1", shots=4, ablation="labels-replaced")
    at = figures([folder])
    assert at.copied.value == 100.0
    assert at.covered.value == 0.0
    _older(folder)
    assert figures([folder], vqa_root) == at
