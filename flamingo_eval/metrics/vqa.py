"""VQA accuracy (VQAv2, OK-VQA, TextVQA, VizWiz): agreement with ten annotators; each is left out in turn.

For each annotator left out, accuracy is min(1, matches among the others / 3); the question's score is the mean over
annotators, the benchmark's the mean over questions. Leaving out is by position. Dialects differ in what is cleaned:

    official           GT-Vision-Lab/VQA vqaEval.py: both sides, only when the references are not all the same
    always_normalised  both sides, always (what visualqa.org/evaluation describes)
    openflamingo       the same rule; OpenFlamingo's evaluation code
    textvqa            the TextVQA evaluator: both sides, always, after a pass over commas, question marks, possessives
    vizwiz             the VizWiz scorer: the prediction always, the references never; most contractions get a
                       typographic apostrophe, so `dont` becomes a word that no reference has
    prophet            the community scorer for OK-VQA: the prediction always and fully; of the references punctuation,
                       and only when they differ

Quirks that are kept because they change scores: a mark is deleted everywhere if it is next to a space anywhere in the
original, or if the original has a digit-comma-digit; the look-behind of the period has a typing error, so `3.` loses
its period and `a.5` keeps it; only the first 32 periods are deleted.

Reads Example.references (ten answers) and Example.labels `answer_type` and `question_type` for the breakdown.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from statistics import fmean

from flamingo_eval.metrics.bootstrap import group_means
from flamingo_eval.metrics.contractions import CONTRACTIONS, VIZWIZ_CONTRACTIONS
from flamingo_eval.records import Example, MetricResult, Prediction

MARKS = ';/[]"{}()=+\\_-><@`,?!'
PERIOD = re.compile(r"(?!<=\d)(\.)(?!\d)")  # the typing error of the look-behind is in the original
COMMA_IN_NUMBER = re.compile(r"(\d)(,)(\d)")
PERIODS_REMOVED = 32  # the original passes re.UNICODE as the count
NUMBERS = {
    "none": "0", "zero": "0", "one": "1", "two": "2", "three": "3", "four": "4", "five": "5", "six": "6",
    "seven": "7", "eight": "8", "nine": "9", "ten": "10",
}  # fmt: skip
ARTICLES = ("a", "an", "the")


def vqa_accuracy(predictions: Sequence[Prediction], examples: Sequence[Example], dialect: str = "") -> MetricResult:
    """VQA accuracy in one of the dialects above, 0-100, by answer type and question type."""
    values = [
        100 * question_accuracy(p.text or "", e.references, dialect or "official")
        for p, e in zip(predictions, examples, strict=True)
    ]
    breakdown: dict[str, float | None] = {}
    for label in ("answer_type", "question_type"):
        groups = [str(e.labels[label]) if label in e.labels else None for e in examples]
        breakdown |= group_means(values, groups, label)
    return MetricResult(fmean(values), tuple(values), breakdown)


def question_accuracy(prediction: str, references: Sequence[str], dialect: str = "official") -> float:
    """Accuracy of one answer, 0-1. With ten references: 0, 0.3, 0.6, 0.9, 1 for 0, 1, 2, 3, 4 or more matches."""
    answer, cleaned_references = _cleaned(prediction, tuple(references), dialect)
    is_match = [answer == reference for reference in cleaned_references]
    matches = sum(is_match)
    return fmean(min(1.0, (matches - left_out) / 3) for left_out in is_match)


@lru_cache(maxsize=4096)
def _cleaned(prediction: str, references: tuple[str, ...], dialect: str) -> tuple[str, tuple[str, ...]]:
    answer = _one_line(prediction)
    cleaned_references = tuple(_one_line(r) for r in references)
    differ = len(set(cleaned_references)) > 1
    if dialect == "official":
        return (clean(answer), tuple(map(clean, cleaned_references))) if differ else (answer, cleaned_references)
    if dialect == "vizwiz":
        return clean(answer, VIZWIZ_CONTRACTIONS), references
    if dialect == "prophet":
        return clean(answer), tuple(map(without_marks, cleaned_references)) if differ else cleaned_references
    if dialect == "textvqa":
        return textvqa_clean(prediction), tuple(textvqa_clean(r) for r in references)
    return clean(answer), tuple(map(clean, cleaned_references))


def _one_line(text: str) -> str:
    return text.replace("\n", " ").replace("\t", " ").strip()


def clean(text: str, contractions: Mapping[str, str] = CONTRACTIONS) -> str:
    """Punctuation, then digits, articles and contractions, as in vqaEval.py."""
    return without_articles(without_marks(text), contractions)


def without_marks(text: str) -> str:
    """vqaEval.py processPunctuation. Every test is on the original text, not on the changed one."""
    out = text
    number = COMMA_IN_NUMBER.search(text) is not None
    for mark in MARKS:
        if mark in out:
            touches_space = f"{mark} " in text or f" {mark}" in text
            out = out.replace(mark, "" if touches_space or number else " ")
    return PERIOD.sub("", out, count=PERIODS_REMOVED)


def without_articles(text: str, contractions: Mapping[str, str] = CONTRACTIONS) -> str:
    """vqaEval.py processDigitArticle: lower case, number words to ten, no articles, contractions spelled out."""
    words = [NUMBERS.get(word, word) for word in text.lower().split()]
    words = [word for word in words if word not in ARTICLES]
    return " ".join(contractions.get(word, word) for word in words)


def textvqa_clean(text: str) -> str:
    """The TextVQA evaluator: its first pass over words, then punctuation and articles."""
    words = text.lower().replace(",", "").replace("?", "").replace("'s", " 's").strip()
    return clean(_one_line(words))
