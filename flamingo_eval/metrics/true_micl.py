"""TrueMICL: accuracy over queries whose answers are signed integers or short texts.

We have not read the benchmark's own script. VL-ICL's scorer never reads a sign, so it cannot be used. Dialects:

    answer    if the answer is an integer, the number in the first line of the prediction: the first one
              after its last `=`, or of the whole line; with its sign, and a decimal is another number. Otherwise the
              first line, with or without a period at its end, regardless of case
    exact     the whole prediction without outer white space, regardless of case

Reads Example.references (one answer) and, for the breakdown, Example.labels `operator`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from statistics import fmean

from flamingo_eval.metrics.bootstrap import group_means
from flamingo_eval.records import Example, MetricResult, Prediction

NUMBER = re.compile(r"(?:(?<![\w)])[-\u2212])?\d+(?:\.\d+)?")  # a minus after a digit or a letter joins words: `3-1`
WHOLE = re.compile(r"[-\u2212]?\d+")


def true_micl(predictions: Sequence[Prediction], examples: Sequence[Example], dialect: str = "") -> MetricResult:
    """Accuracy, 0-100; both dialects and operators in the breakdown."""
    scores = {"answer": _scores(predictions, examples), "exact": _exact(predictions, examples)}
    chosen = scores[dialect or "answer"]
    breakdown: dict[str, float | None] = {name: fmean(values) for name, values in scores.items()}
    operators = [str(e.labels["operator"]) if "operator" in e.labels else None for e in examples]
    breakdown |= group_means(chosen, operators, "operator")
    return MetricResult(fmean(chosen), tuple(chosen), breakdown)


def read_answer(text: str) -> str:
    """The number in the first line of a text, without leading zeros; the line itself if it has none."""
    line = first_line(text)
    number = NUMBER.search(line.rpartition("=")[2]) or NUMBER.search(line)
    return _plain(number.group()) if number else line.removesuffix(".")


def first_line(text: str) -> str:
    """The first line that is not empty, in lower case."""
    return next((line.strip().lower() for line in text.splitlines() if line.strip()), "")


def _plain(number: str) -> str:
    """`-07` -> `-7`, `\u22123` -> `-3`, `-0` -> `0`, `4.0` -> `4`; compared as text, for digits may be many."""
    digits, _, decimals = number.lstrip("-\u2212").partition(".")
    value = (digits.lstrip("0") or "0") + (f".{decimals.rstrip('0')}" if decimals.strip("0") else "")
    return f"-{value}" if number[0] in "-\u2212" and value != "0" else value


def _scores(predictions: Sequence[Prediction], examples: Sequence[Example]) -> list[float]:
    scores = []
    for prediction, example in zip(predictions, examples, strict=True):
        text, answer = prediction.text or "", example.references[0].strip()
        if WHOLE.fullmatch(answer):
            right = read_answer(text) == _plain(answer)
        else:
            right = answer.lower() in (first_line(text), first_line(text).removesuffix("."))
        scores.append(100.0 if right else 0.0)
    return scores


def _exact(predictions: Sequence[Prediction], examples: Sequence[Example]) -> list[float]:
    return [
        100.0 if (p.text or "").strip().lower() == e.references[0].strip().lower() else 0.0
        for p, e in zip(predictions, examples, strict=True)
    ]
