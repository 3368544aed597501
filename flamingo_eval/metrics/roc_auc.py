"""ROC AUC of P(hateful) (Hateful Memes): how often a hateful meme scores above a harmless one; a tie counts one half.

The value of scikit-learn's roc_auc_score. Scores are the log-likelihoods [no, yes]; P(yes) = exp(yes) / (exp(no) +
exp(yes)) rises with yes - no; this difference is ranked here, because it cannot saturate. `yes` alone is not
the same quantity.

With letters (`--rank letter`) P(yes) is 1 or 0, the area is then (sensitivity + specificity) / 2, and an
answer without a letter counts as the wrong one.

Reads Example.target (1: hateful, 0: not).
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from flamingo_eval.records import Example, MetricResult, Prediction

HARD = "letters: P(yes) is 0 or 1, so the area is the mean of sensitivity and specificity"
DECIMALS = 9  # of yes - no: -1.2 - -0.9 and -0.8 - -0.5 are a tie, though their binary differences are not equal


class RankedScores:
    """Scores sorted once, so that each weighting of the rows needs one pass."""

    def __init__(self, scores: Sequence[float], positive: Sequence[bool]) -> None:
        values = np.asarray(scores, dtype=np.float64)
        self.order = np.argsort(values, kind="stable")
        self.level = np.concatenate([[0], np.cumsum(np.diff(values[self.order]) > 0)])  # equal scores share a level
        self.positive = np.asarray(positive, dtype=bool)[self.order]

    def auc(self, weights: NDArray[np.float64]) -> float | None:
        """Area under the curve of weighted rows, 0-1; None if a class is missing. float64[rows] -> float"""
        w = weights[self.order]
        n_levels = int(self.level[-1]) + 1
        positive = np.bincount(self.level, w * self.positive, minlength=n_levels)
        negative = np.bincount(self.level, w * ~self.positive, minlength=n_levels)
        below = np.cumsum(negative) - negative
        pairs = positive.sum() * negative.sum()
        return float(positive @ (below + negative / 2) / pairs) if pairs else None


def roc_auc(predictions: Sequence[Prediction], examples: Sequence[Example], dialect: str = "") -> MetricResult:
    """ROC AUC x 100; accuracy of the likelier answer in the breakdown. Undefined if only one class occurs."""
    truth = [e.target == 1 for e in examples]
    odds = [_log_odds(p, t) for p, t in zip(predictions, truth, strict=True)]
    ranked = RankedScores(odds, truth)
    accuracy = 100 * fmean((o > 0) == t for o, t in zip(odds, truth, strict=True))
    no_values = (None,) * len(odds)  # the area belongs to pairs of rows

    def resample(rows: NDArray[np.int64]) -> float | None:
        area = ranked.auc(np.bincount(rows, minlength=len(odds)).astype(np.float64))
        return None if area is None else 100 * area

    value = resample(np.arange(len(odds)))
    why = "" if value is not None else f"all {len(odds)} examples are of one class, and the area needs both"
    notes = {"scores": HARD} if any(p.scores is None for p in predictions) else {}
    return MetricResult(value, no_values, {"accuracy": accuracy}, why, resample=resample, notes=notes)


def _log_odds(prediction: Prediction, truth: bool) -> float:
    if prediction.scores is None:
        hard = prediction.chosen if prediction.chosen is not None else not truth
        return 1.0 if hard else -1.0
    no, yes = prediction.scores
    if no == yes:
        return 0.0  # also -inf - -inf
    return round(yes - no, DECIMALS)
