"""ISEKAI (Link-Context Learning): does the answer have the right name, and not the name of the similar object?

A prediction is right if it contains the true name and, after that is removed, not the other name. Names are
compared in lower case. Dialects:

    official    the prediction is not changed: a capital letter in the name makes it wrong (the released rule)
    any_case    the prediction is lower-cased too

Reads Example.references (the true name) and Example.labels `other_name`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from statistics import fmean

from flamingo_eval.metrics.vl_icl import CEILING_NOTE
from flamingo_eval.records import Example, MetricResult, Prediction

DIALECTS = ("official", "any_case")
QUOTED = re.compile(r"\"([^\"]+)\"")


def isekai(predictions: Sequence[Prediction], examples: Sequence[Example], dialect: str = "") -> MetricResult:
    """Accuracy over queries, 0-100; both dialects in the breakdown, the released rule's ceiling in the notes."""
    scores = {name: _scores(predictions, examples, name) for name in DIALECTS}
    chosen = scores[dialect or DIALECTS[0]]
    names = [Prediction(e.id, e.references[0]) for e in examples]
    ceiling = _scores(names, examples, DIALECTS[0])
    lost = f"{ceiling.count(0.0)} of {len(examples)} names, as demonstrations spell them, cannot score"
    notes = {CEILING_NOTE: f"{fmean(ceiling):.2f} under dialect official, {lost}"}
    breakdown: dict[str, float | None] = {name: fmean(values) for name, values in scores.items()}
    return MetricResult(fmean(chosen), tuple(chosen), breakdown, notes=notes)


def read_name(text: str) -> str:
    """The name in an answer, in lower case: the text between quotation marks, else the whole answer."""
    quoted = QUOTED.search(text)
    return (quoted[1] if quoted else text).strip().removesuffix(".").lower()


def _scores(predictions: Sequence[Prediction], examples: Sequence[Example], dialect: str) -> list[float]:
    scores = []
    for prediction, example in zip(predictions, examples, strict=True):
        text = prediction.text or ""
        text = text.lower() if dialect == "any_case" else text
        true, other = example.references[0].lower(), str(example.labels["other_name"]).lower()
        scores.append(100.0 if true in text and other not in text.replace(true, "") else 0.0)
    return scores
