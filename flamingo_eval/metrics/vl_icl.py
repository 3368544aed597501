"""VL-ICL Bench: accuracy as in its released scorer, and corrected readings of the same predictions next to it.

The released scorer (ys-zong/VL-ICL, evals/eval.py) strips a prediction and keeps the text before its first newline. If
there is no newline, it keeps the text before the first period, unless the prediction begins with one. It does not strip
again. The comparison depends on the task, and each kind has its own metric:

    vl_icl_text     the whole text, lower-cased, equals the answer (open_mi, textocr)
    vl_icl_count    the same; corrected dialects read a number (clevr)
    vl_icl_number   the first digits equal the answer: a sign is never read (operator induction)
    vl_icl_yes_no   whether `yes` is part of the text: anything without it counts as `No` (matching_mi)

The dialect `official` is that scorer. It counts some right answers as wrong: the notes have its ceiling, the score of
predictions that are equal to the answers. The other dialects correct it and are shown in the breakdown:

    stripped    text, count: white space is also stripped after the cut
    first_line  text: also right if the first line, with or without a period at its end, is the answer
    number      count: the first number of the cut text, with its sign
    signed      number: the first number of the cut text, with its sign
    yes_or_no   yes_no: the cut text has the word of the answer, and not the other one

Reads Example.references (one answer) and, for the breakdown, Example.labels `operator` and `attribute`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean

from flamingo_eval.metrics.bootstrap import group_means
from flamingo_eval.records import Example, MetricResult, Prediction

IsRight = Callable[[str, str], bool]  # prediction, answer

CEILING_NOTE = "scorer's ceiling"
DIGITS = re.compile(r"\d+")
SIGNED = re.compile(r"(?:(?<![\w)])[-\u2212])?\d+")  # a minus after a digit or a letter joins words: `3-1`, `item-3`
YES_OR_NO = re.compile(r"\b(yes|no)\b")


def cut(prediction: str) -> str:
    """The released scorer's cut: at the first newline, else at the first period, unless nothing would be left."""
    text = prediction.strip()
    end = text.find("\n")
    if end < 0:
        end = text.find(".")
    return text[:end] if end > 0 else text


def _text(prediction: str, answer: str) -> bool:
    return cut(prediction).lower() == answer.lower()


def _stripped(prediction: str, answer: str) -> bool:
    return cut(prediction).strip().lower() == answer.strip().lower()


def _first_line(prediction: str, answer: str) -> bool:
    line = prediction.strip().split("\n")[0].strip().lower()
    return answer.strip().lower() in (line, line.removesuffix(".")) or _stripped(prediction, answer)


def _digits(prediction: str, answer: str) -> bool:
    number = DIGITS.search(cut(prediction))
    return (number.group() if number else "").lower() == answer.lower()


def _signed(prediction: str, answer: str) -> bool:
    number, expected = SIGNED.search(cut(prediction)), SIGNED.fullmatch(answer.strip())
    return number is not None and expected is not None and _whole(number.group()) == _whole(expected.group())


def _whole(number: str) -> tuple[bool, str]:
    """Sign and digits without leading zeros; compared as text, because Python does not read numbers of thousands of
    digits.
    """
    digits = number.lstrip("-\u2212").lstrip("0")
    return bool(digits) and number[0] in "-\u2212", digits


def _says_yes(prediction: str, answer: str) -> bool:
    has_yes = "yes" in cut(prediction).lower()
    return {"yes": has_yes, "no": not has_yes}.get(answer.lower(), False)


def _yes_or_no(prediction: str, answer: str) -> bool:
    return set(YES_OR_NO.findall(cut(prediction).lower())) == {answer.strip().lower()}


def read_text(text: str) -> str:
    """The text of a prediction or an answer: cut, without outer white space, last period and case."""
    return cut(text).strip().lower().removesuffix(".")


def read_number(text: str) -> str:
    """The first number of the cut text with its sign; the text if it has none."""
    number = SIGNED.search(cut(text))
    if number is None:
        return read_text(text)
    negative, digits = _whole(number.group())
    return f"{'-' if negative else ''}{digits or '0'}"


def read_yes_no(text: str) -> str:
    """`yes` or `no` if the cut text has one of the words; the text if it has none or both."""
    words = set(YES_OR_NO.findall(cut(text).lower()))
    return words.pop() if len(words) == 1 else read_text(text)


TEXT: Mapping[str, IsRight] = {"official": _text, "stripped": _stripped, "first_line": _first_line}
COUNT: Mapping[str, IsRight] = {"official": _text, "stripped": _stripped, "number": _signed}
NUMBER: Mapping[str, IsRight] = {"official": _digits, "signed": _signed}
YES_NO: Mapping[str, IsRight] = {"official": _says_yes, "yes_or_no": _yes_or_no}


def text(predictions: Sequence[Prediction], examples: Sequence[Example], dialect: str = "") -> MetricResult:
    """Accuracy of short texts (open_mi, textocr), 0-100."""
    return _result(TEXT, predictions, examples, dialect)


def count(predictions: Sequence[Prediction], examples: Sequence[Example], dialect: str = "") -> MetricResult:
    """Accuracy of counts that the released scorer compares as texts (clevr), 0-100."""
    return _result(COUNT, predictions, examples, dialect)


def number(predictions: Sequence[Prediction], examples: Sequence[Example], dialect: str = "") -> MetricResult:
    """Accuracy of the first digits (operator induction), 0-100."""
    return _result(NUMBER, predictions, examples, dialect)


def yes_no(predictions: Sequence[Prediction], examples: Sequence[Example], dialect: str = "") -> MetricResult:
    """Accuracy of yes or no, by whether `yes` is in the text (matching_mi), 0-100."""
    return _result(YES_NO, predictions, examples, dialect)


def _result(
    dialects: Mapping[str, IsRight], predictions: Sequence[Prediction], examples: Sequence[Example], dialect: str
) -> MetricResult:
    scores = {name: _scores(is_right, predictions, examples) for name, is_right in dialects.items()}
    headline = scores[dialect or "official"]
    breakdown: dict[str, float | None] = {name: fmean(values) for name, values in scores.items()}
    for label in ("operator", "attribute"):
        groups = [str(e.labels[label]) if label in e.labels else None for e in examples]
        breakdown |= group_means(headline, groups, label)
    if dialects is YES_NO:
        breakdown |= group_means(headline, [e.references[0] for e in examples], "answer")
    answers = [Prediction(e.id, e.references[0]) for e in examples]
    ceiling = _scores(dialects["official"], answers, examples)
    lost_text = f"{ceiling.count(0.0)} of {len(examples)} answers cannot score"
    notes = {CEILING_NOTE: f"{fmean(ceiling):.2f} under dialect official, {lost_text}"}
    return MetricResult(fmean(headline), tuple(headline), breakdown, notes=notes)


def _scores(is_right: IsRight, predictions: Sequence[Prediction], examples: Sequence[Example]) -> list[float]:
    return [
        100.0 if is_right(p.text or "", e.references[0]) else 0.0 for p, e in zip(predictions, examples, strict=True)
    ]
