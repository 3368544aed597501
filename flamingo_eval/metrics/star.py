"""STAR: accuracy for each question type, then the unweighted mean over the types (the leaderboard's `Mean`).

Sequence questions would dominate a mean over questions (`micro`, in the breakdown). Equal scores: the lower choice_id.

Reads Example.target (choice_id of the right choice) and labels `question_type` (Interaction, Sequence, Prediction,
Feasibility: the prefix of question_id).
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from flamingo_eval.metrics.bootstrap import group_means
from flamingo_eval.metrics.top_k import hits
from flamingo_eval.records import Example, MetricResult, Prediction


def star_mean(predictions: Sequence[Prediction], examples: Sequence[Example], dialect: str = "") -> MetricResult:
    """Mean of the type accuracies, 0-100. A bootstrap sample is averaged over the types in it."""
    values = hits(predictions, examples, 1)
    types = [str(e.labels["question_type"]) for e in examples]
    by_type = group_means(values, types, "question_type")
    kinds = sorted(set(types))
    kind_of = np.array([kinds.index(t) for t in types])
    correct = np.array(values)

    def mean_over_types(rows: NDArray[np.int64]) -> float:
        n = np.bincount(kind_of[rows], minlength=len(kinds))
        right = np.bincount(kind_of[rows], correct[rows], minlength=len(kinds))
        return float((right[n > 0] / n[n > 0]).mean())

    value = fmean(by_type.values())
    return MetricResult(value, tuple(values), {"micro": fmean(values), **by_type}, resample=mean_over_types)
