"""--expect: what is asked for must be there, be unique, and be reached."""

from __future__ import annotations

from dataclasses import replace

import pytest

from flamingo_eval.errors import UsageError
from flamingo_eval.report.expectations import check_expectations, parse_expectations
from flamingo_eval.report.tables import Cell, Row, Table
from flamingo_eval.runs.folder import CEILING

RUNS = (("vqav2@sample", "val", 0), ("vqav2@sample", "val", 4), ("coco@sample", "test", 4))


def cell(value: float | None) -> Cell:
    return Cell(value, None, (0,), None, 100, 0)


VQA = Row("vqav2@sample", "val", "vqa_accuracy", "m", "flamingo", "random", "", {0: cell(36.0), 4: cell(65.0)})
COCO = Row("coco@sample", "test", "cider", "m", "flamingo", "random", "", {4: cell(None)})
TABLE = Table((VQA, COCO, replace(COCO, metric="meteor", cells={4: cell(30.0)})), (0, 4))


@pytest.mark.parametrize(
    ("text", "met"),
    [
        ("vqav2 4 >= 65", True),
        ("vqav2 4 > 65", False),
        ("vqav2@sample:val vqa_accuracy 4<=65.0", True),
        ("vqav2 0 < 40", True),
        ("coco meteor 4 >= 29.5", True),
        ("coco 4 >= 1", False),
    ],
)
def test_bounds_are_compared_with_the_score(text: str, met: bool) -> None:
    (outcome,) = check_expectations(parse_expectations([text], RUNS), TABLE)
    assert outcome.met is met
    assert str(outcome).startswith("met: " if met else "NOT MET: ")


def test_an_undefined_score_meets_nothing() -> None:
    (outcome,) = check_expectations(parse_expectations(["coco 4 < 1000"], RUNS), TABLE)
    assert str(outcome) == "NOT MET: expected coco 4 < 1000, got undefined"


def test_everything_wrong_is_named_at_once() -> None:
    with pytest.raises(UsageError, match="2 problems in --expect") as error:
        parse_expectations(["vqav2 four >= 3", "vqav2 8 >= 3", "vqav2 4 >= 3"], RUNS)
    assert "expected TASK[:SPLIT] [METRIC] SHOTS OPERATOR VALUE" in str(error.value)
    assert "Its runs: vqav2@sample:val 0, vqav2@sample:val 4, coco@sample:test 4" in str(error.value)


def test_an_unknown_metric_is_named_with_those_there_are() -> None:
    with pytest.raises(UsageError, match=r"unknown score\.\nMetrics of the task: cider, meteor"):
        check_expectations(parse_expectations(["coco bleu 4 > 1"], RUNS), TABLE)


def test_two_splits_need_a_name() -> None:
    both = Table((VQA, replace(VQA, split="test-dev")), (0, 4))
    runs = (*RUNS, ("vqav2@sample", "test-dev", 4))
    with pytest.raises(UsageError, match="several scores match"):
        check_expectations(parse_expectations(["vqav2 4 > 1"], runs), both)
    (outcome,) = check_expectations(parse_expectations(["vqav2:val 4 > 1"], runs), both)
    assert outcome.met


def test_a_ceiling_is_no_score() -> None:
    table = Table((VQA, replace(VQA, metric=CEILING, cells={4: cell(99.0)})), (0, 4))
    (outcome,) = check_expectations(parse_expectations(["vqav2 4 <= 70"], RUNS), table)
    assert outcome.met
