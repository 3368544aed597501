"""The released scorer of VL-ICL, case by case, and what the repaired dialects make of the same predictions."""

from __future__ import annotations

import pytest

from flamingo_eval.metrics import load_metric
from flamingo_eval.records import Example, MetricResult, Prediction

# metric, prediction, answer, official score
OFFICIAL = [
    ("vl_icl_text", "Dax.", "dax", 1),
    ("vl_icl_text", "dax\nThis is", "dax", 1),
    ("vl_icl_text", "dax.\nThis is", "dax", 0),
    ("vl_icl_text", "dax \nThis", "dax", 0),
    ("vl_icl_text", '"dax"', "dax", 0),
    ("vl_icl_text", "This is a dax", "dax", 0),
    ("vl_icl_text", "dax. It", "dax", 1),
    ("vl_icl_text", "dax!", "dax", 0),
    ("vl_icl_text", "STOP", "Stop", 1),
    ("vl_icl_text", "St.", "St.", 0),
    ("vl_icl_text", "www.x.com", "www.x.com", 0),
    ("vl_icl_text", "www.x.com\nok", "www.x.com", 1),
    ("vl_icl_text", ".com", ".com", 1),
    ("vl_icl_count", "3.", "3", 1),
    ("vl_icl_count", "The answer is 3", "3", 0),
    ("vl_icl_count", "3 objects", "3", 0),
    ("vl_icl_count", "three", "3", 0),
    ("vl_icl_number", "The answer is 7.", "7", 1),
    ("vl_icl_number", "-3", "-3", 0),
    ("vl_icl_number", "3", "-3", 0),
    ("vl_icl_number", "2 x 3 = 6", "6", 0),
    ("vl_icl_number", "07", "7", 0),
    ("vl_icl_number", "4.5", "4", 1),
    ("vl_icl_number", "= 12", "12", 1),
    ("vl_icl_number", "seven", "7", 0),
    ("vl_icl_yes_no", "", "No", 1),
    ("vl_icl_yes_no", "banana", "No", 1),
    ("vl_icl_yes_no", "not yes", "Yes", 1),
    ("vl_icl_yes_no", "Hm. yes", "Yes", 0),
    ("vl_icl_yes_no", "eyes", "Yes", 1),
    ("vl_icl_yes_no", "No\nYes", "Yes", 0),
    ("vl_icl_yes_no", "Hm. yes", "No", 1),
]

# metric, repaired dialect, prediction, answer, score
REPAIRED = [
    ("vl_icl_text", "stripped", "dax \nThis", "dax", 1),
    ("vl_icl_text", "stripped", "dax.\nThis is", "dax", 0),
    ("vl_icl_text", "first_line", "dax.\nThis is", "dax", 1),
    ("vl_icl_text", "first_line", "dax. It", "dax", 1),
    ("vl_icl_text", "first_line", "St.", "St.", 1),
    ("vl_icl_text", "first_line", "www.x.com", "www.x.com", 1),
    ("vl_icl_text", "first_line", "This is a dax", "dax", 0),
    ("vl_icl_count", "number", "The answer is 3", "3", 1),
    ("vl_icl_count", "number", "3 objects", "3", 1),
    ("vl_icl_count", "number", "13", "3", 0),
    ("vl_icl_count", "number", "three", "3", 0),
    ("vl_icl_number", "signed", "-3", "-3", 1),
    ("vl_icl_number", "signed", "= \u22123.", "-3", 1),
    ("vl_icl_number", "signed", "3", "-3", 0),
    ("vl_icl_number", "signed", "-3", "3", 0),
    ("vl_icl_number", "signed", "5-3", "-3", 0),
    ("vl_icl_number", "signed", "07", "7", 1),
    ("vl_icl_number", "signed", "-0", "0", 1),
    ("vl_icl_number", "signed", "9" * 5000, "9" * 5000, 1),
    ("vl_icl_yes_no", "yes_or_no", "", "No", 0),
    ("vl_icl_yes_no", "yes_or_no", "No.", "No", 1),
    ("vl_icl_yes_no", "yes_or_no", "eyes", "Yes", 0),
    ("vl_icl_yes_no", "yes_or_no", "yes or no", "Yes", 0),
]


def scored(metric: str, prediction: str, answer: str, dialect: str = "", **labels: object) -> MetricResult:
    example = Example("1", (), "1", references=(answer,), labels=labels)
    return load_metric(metric)([Prediction("1", prediction)], [example], dialect)


@pytest.mark.parametrize(("metric", "prediction", "answer", "score"), OFFICIAL)
def test_the_released_scorer(metric: str, prediction: str, answer: str, score: int) -> None:
    assert scored(metric, prediction, answer).value == 100 * score


@pytest.mark.parametrize(("metric", "dialect", "prediction", "answer", "score"), REPAIRED)
def test_a_repaired_dialect(metric: str, dialect: str, prediction: str, answer: str, score: int) -> None:
    assert scored(metric, prediction, answer, dialect).value == 100 * score
    assert scored(metric, prediction, answer).breakdown[dialect] == 100 * score


def test_the_ceiling_counts_the_answers_that_can_never_score() -> None:
    examples = [Example(str(i), (), str(i), references=(a,)) for i, a in enumerate(("4", "-1", "7", "-3"))]
    predictions = [Prediction(e.id, "4") for e in examples]
    result = load_metric("vl_icl_number")(predictions, examples)
    assert result.notes["scorer's ceiling"] == "50.00 under dialect official, 2 of 4 answers cannot score"


def test_operators_and_attributes_have_a_row_of_their_own() -> None:
    assert scored("vl_icl_number", "4", "4", operator="+").breakdown["operator: +"] == 100
    assert scored("vl_icl_count", "4", "4", attribute="shape").breakdown["attribute: shape"] == 100
    assert scored("vl_icl_yes_no", "no", "No").breakdown["answer: No"] == 100
