"""NDCG of VisDial v1.0: how high the options that annotators marked as right are in the ranking.

One densely annotated round per image, 100 options, each with a relevance. k is the number of options whose relevance is
not zero; DCG@k = sum over the first k ranks i of relevance / log2(i + 1), NDCG = DCG@k / the DCG@k of the best ranking.
The official starter (batra-mlp-lab/visdial-challenge-starter-pytorch, visdialch/metrics.py) computes in float32 and
sorts unstably, so its last digits and its ties depend on the torch build; here float64, and of ties the lower index.

Reads labels `relevance` (one number per candidate) and, if present, `gt_index` (the human's answer) for MRR, R@k and
the mean rank of the annotated round.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import cast

import numpy as np
from numpy.typing import NDArray

from flamingo_eval.metrics.bootstrap import mean_of
from flamingo_eval.metrics.top_k import rank_of
from flamingo_eval.records import Example, MetricResult, Prediction


def ndcg_of(scores: Sequence[float], relevance: Sequence[float]) -> float | None:
    """NDCG of one ranking, 0-1; None if no option is relevant."""
    gain = np.asarray(relevance, dtype=np.float64)
    k = int(np.count_nonzero(gain))
    if k == 0:
        return None
    order = np.argsort(-np.asarray(scores, dtype=np.float64), kind="stable")
    return _dcg(gain[order][:k]) / _dcg(np.sort(gain)[::-1][:k])


def _dcg(gain: NDArray[np.float64]) -> float:
    return float((gain / np.log2(np.arange(len(gain)) + 2)).sum())


def ndcg(predictions: Sequence[Prediction], examples: Sequence[Example], dialect: str = "") -> MetricResult:
    """Mean NDCG, 0-100, over the images that have a relevant option; MRR, R@k and mean rank in the breakdown."""
    values: list[float | None] = []
    ranks: list[int] = []
    for prediction, example in zip(predictions, examples, strict=True):
        scores = prediction.scores or ()
        value = ndcg_of(scores, cast(Sequence[float], example.labels["relevance"]))
        values.append(None if value is None else 100 * value)
        if "gt_index" in example.labels:
            ranks.append(1 + rank_of(scores, cast(int, example.labels["gt_index"])))
    breakdown: dict[str, float | None] = {}
    if ranks:
        breakdown = {f"R@{k}": 100 * fmean(r <= k for r in ranks) for k in (1, 5, 10)}
        breakdown |= {"MRR": 100 * fmean(1 / r for r in ranks), "mean rank": fmean(ranks)}
    n_undefined = values.count(None)
    notes = {"without a relevant option": str(n_undefined)} if n_undefined else {}
    value = mean_of(values)
    why = "" if value is not None else "no image has an option of non-zero relevance"
    return MetricResult(value, tuple(values), breakdown, why, notes=notes)
