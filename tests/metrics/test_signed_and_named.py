"""TrueMICL's signed numbers, ISEKAI's names, SMMILE's exact match: case by case."""

from __future__ import annotations

import pytest

from flamingo_eval.metrics import load_metric
from flamingo_eval.metrics.vl_icl import CEILING_NOTE
from flamingo_eval.prompting.answer_rules import tagged_letter
from flamingo_eval.records import Example, MetricResult, Prediction


def scored(metric: str, prediction: str, answer: str, dialect: str = "", **labels: object) -> MetricResult:
    example = Example("q", (), "q", references=(answer,), labels=labels)
    return load_metric(metric)([Prediction("q", prediction)], [example], dialect)


@pytest.mark.parametrize(
    ("prediction", "answer", "score"),
    [
        ("-5", "-5", 100),
        ("5", "-5", 0),
        ("-5", "5", 0),
        ("\u22125", "-5", 100),  # a minus sign
        ("The answer is -5.", "-5", 100),
        ("-05", "-5", 100),
        ("-0", "0", 100),
        ("4 - 9 = -5", "-5", 100),
        ("4-9=-5", "-5", 100),
        ("4-9", "-9", 0),  # a minus between digits is no sign
        ("= -5\n7", "-5", 100),
        ("\n -5", "-5", 100),
        ("-5.0", "-5", 100),
        ("-5.5", "-5", 0),
        ("15", "5", 0),
        ("five", "5", 0),
        ("", "-5", 0),
        ("\u0665", "5", 0),  # other scripts' digits are not read as these
        ("Star", "star", 100),
        ("star.\nmore", "star", 100),
        ("a star", "star", 0),
        ("St.", "St.", 100),
        ("9" * 5000, "9" * 5000, 100),  # longer than Python turns into a number
    ],
)
def test_true_micl_reads_the_sign(prediction: str, answer: str, score: float) -> None:
    assert scored("true_micl", prediction, answer).value == score


def test_true_micl_exact_is_the_whole_answer_and_operators_are_apart() -> None:
    result = scored("true_micl", " -5\n", "-5", "exact", operator="-")
    assert (result.value, result.breakdown["operator: -"]) == (100, 100)
    assert scored("true_micl", "It is -5", "-5", "exact").value == 0


@pytest.mark.parametrize(
    ("prediction", "official", "any_case"),
    [
        ('there is "red octopus" in the image.', 100, 100),
        ('there is "Red octopus" in the image.', 0, 100),
        ("red octopus, no octopus", 0, 0),  # the other name is left once the true one is taken out
        ("octopus", 0, 0),
        ("a red octopus red octopus", 100, 100),
        ("", 0, 0),
    ],
)
def test_an_isekai_answer_has_the_name_and_not_the_other(prediction: str, official: float, any_case: float) -> None:
    for dialect, score in (("", official), ("official", official), ("any_case", any_case)):
        assert scored("isekai", prediction, "red octopus", dialect, other_name="octopus").value == score


def test_names_with_capitals_cannot_score_under_the_released_rule_and_the_note_says_so() -> None:
    result = scored("isekai", "Red Octopus", "Red Octopus", other_name="squid")
    assert result.value == 0
    assert result.notes[CEILING_NOTE].startswith("0.00 under dialect official, 1 of 1 names")
    assert scored("isekai", "red octopus", "Red Octopus", other_name="squid").value == 100


@pytest.mark.parametrize(
    ("prediction", "answer", "score"),
    [
        ("Left  lung.", "left lung", 100),
        ("left-lung", "left lung", 0),  # punctuation is deleted, not turned into a space
        ("LEFTLUNG", "left-lung", 100),
        (" yes\n", "Yes!", 100),
        ("\u201cyes\u201d", "yes", 0),  # ASCII punctuation alone
        ("", "yes", 0),
    ],
)
def test_smmile_compares_without_case_punctuation_and_white_space(prediction: str, answer: str, score: float) -> None:
    assert scored("exact_match", prediction, answer, "smmile").value == score


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("<think>A or B? The answer is A</think><answer>B</answer>", "B"),
        ("<think>...</think>\n<answer> (c) left lung </answer>", "C"),
        ("<answer>A</answer> no, <answer>D", "D"),  # the last one, left open
        ("<think>so</think> B", "B"),
        ("Looking at both lungs, the answer is **C**.", "C"),
        ("I would say option B because of the edges.", "B"),
        ("First I look.\nThen I choose.\nD", "D"),
        ("<answer>left lung</answer>", ""),
        ("nothing here", ""),
        ("", ""),
    ],
)
def test_the_letter_of_a_reasoned_answer(text: str, letter: str) -> None:
    assert tagged_letter(text) == letter
