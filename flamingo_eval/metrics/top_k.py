"""Top-k accuracy of ranked candidates: ImageNet (top-1) and Kinetics (mean of top-1 and top-5).

Of equal scores the lower candidate index comes first. Classes are compared by index, never by name, because class names
may be equal (`crane`, `maillot`). Of a query's own choices, all that have the text of the right one are right. Flamingo
reports (top-1 + top-5) / 2 accuracy for Kinetics; the challenge's own number is the same from errors, 1 - hit.

Reads Example.target (index of the right candidate).
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

import numpy as np

from flamingo_eval.records import Example, MetricResult, Prediction


def rank_of(scores: Sequence[float], index: int) -> int:
    """How many candidates come before this one: those with a higher score, and equal ones with a lower index."""
    values = np.asarray(scores, dtype=np.float64)
    return int(np.count_nonzero(values > values[index]) + np.count_nonzero(values[:index] == values[index]))


def right_choices(example: Example) -> tuple[int, ...]:
    """The index of the right candidate, and of those among the query's own choices that have the same text."""
    assert example.target is not None
    if not example.candidates:
        return (example.target,)
    text = example.candidates[example.target]
    return tuple(i for i, candidate in enumerate(example.candidates) if candidate == text)


def hits(predictions: Sequence[Prediction], examples: Sequence[Example], k: int) -> list[float]:
    """100 for every query whose right candidate is among the best k, else 0.

    For k = 1 the best candidate alone is enough; without one (an answer without a letter) the query counts 0.
    """
    values = []
    for prediction, example in zip(predictions, examples, strict=True):
        choices = right_choices(example)
        if prediction.scores is None:
            assert k == 1
            right = prediction.chosen in choices
        else:
            right = min(rank_of(prediction.scores, choice) for choice in choices) < k
        values.append(100.0 if right else 0.0)
    return values


def top1(predictions: Sequence[Prediction], examples: Sequence[Example], dialect: str = "") -> MetricResult:
    """Top-1 accuracy, 0-100; top-5 in the breakdown if more than five candidates have a score."""
    values = hits(predictions, examples, 1)
    has_top5 = any(len(p.scores or ()) > 5 for p in predictions)
    breakdown: dict[str, float | None] = {"top5": fmean(hits(predictions, examples, 5))} if has_top5 else {}
    return MetricResult(fmean(values), tuple(values), breakdown)


def top1_top5_mean(predictions: Sequence[Prediction], examples: Sequence[Example], dialect: str = "") -> MetricResult:
    """Mean of top-1 and top-5 accuracy, 0-100; both in the breakdown."""
    first, fifth = hits(predictions, examples, 1), hits(predictions, examples, 5)
    values = tuple((a + b) / 2 for a, b in zip(first, fifth, strict=True))
    breakdown: dict[str, float | None] = {"top1": fmean(first), "top5": fmean(fifth)}
    return MetricResult(fmean(values), values, breakdown)
