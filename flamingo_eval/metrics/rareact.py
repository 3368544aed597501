"""RareAct: mean average precision over actions that have a positive clip (antoine77340/RareAct, compute_score.py).

Every row is scored against all 149 classes. For a class with a positive:

    positives        its rows with annotation 1
    hard negatives   its rows with 2, 3 or 4, and positives of classes that share exactly one of verb and noun
    negatives        its rows with 0, and positives of classes that share neither

mWAP weighs every clip by 1 / (clips of its video in its group). mSAP draws one clip of each video and group instead,
unweighted, and averages over 100 draws; they are seeded here, so a run can be repeated. Both are means over the classes
with a positive (128 of the benchmark's 149). Rows are scored, not segments: a segment may be in two classes.

Reads labels `class_id` (int, the column of the scores), `verb`, `noun`, `annotation` (int 0-4), `video_id`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import cast

import numpy as np
from numpy.typing import NDArray

from flamingo_eval.records import Example, MetricResult, Prediction

POSITIVE = 1
NEGATIVE = 0
DRAWS = 100
SEED = 0
UNDEFINED = "no class has a positive clip"


class RankedRows:
    """Rows in descending order of score, sorted once, so that each weighting needs one pass."""

    def __init__(self, scores: NDArray[np.float64], positive: NDArray[np.bool_]) -> None:
        self.order = np.argsort(-scores, kind="stable")
        sorted_scores = scores[self.order]
        self.ends = np.append(
            np.flatnonzero(sorted_scores[1:] != sorted_scores[:-1]), len(sorted_scores) - 1
        )  # last of equal scores
        self.positive = positive[self.order]

    def average_precision(self, weights: NDArray[np.float64]) -> float | None:
        """Sum over thresholds of (rise in recall) x precision, as scikit-learn's; None without positive weight."""
        w = weights[self.order]
        n_true = np.cumsum(w * self.positive)[self.ends]
        n_retrieved = np.cumsum(w)[self.ends]
        if n_true[-1] == 0:
            return None
        precision = np.divide(n_true, n_retrieved, out=np.zeros_like(n_true), where=n_retrieved > 0)
        return float(np.diff(n_true, prepend=0.0) @ precision / n_true[-1])


@dataclass(frozen=True, slots=True)
class Action:
    """A class with its three groups of rows."""

    name: str
    class_id: int
    positives: list[int]
    negatives: list[int]
    hard_negatives: list[int]

    @property
    def groups(self) -> tuple[list[int], list[int], list[int]]:
        """Positives, negatives, hard negatives."""
        return self.positives, self.negatives, self.hard_negatives


def actions_of(examples: Sequence[Example]) -> list[Action]:
    """The classes that have a positive, in the order of their first occurrence."""
    labels = [e.labels for e in examples]
    pair = [(str(x["verb"]), str(x["noun"])) for x in labels]
    annotation = [cast(int, x["annotation"]) for x in labels]
    actions: dict[tuple[str, str], Action] = {}
    for (verb, noun), x in zip(pair, labels, strict=True):
        actions.setdefault((verb, noun), Action(f"{verb} {noun}", cast(int, x["class_id"]), [], [], []))
    for i, pair_index in enumerate(pair):
        if annotation[i] == POSITIVE:
            actions[pair_index].positives.append(i)
            for (verb, noun), action in actions.items():
                shared = (verb == pair_index[0]) + (noun == pair_index[1])
                if shared == 1:
                    action.hard_negatives.append(i)
                elif shared == 0:
                    action.negatives.append(i)
        elif annotation[i] == NEGATIVE:
            actions[pair_index].negatives.append(i)
        else:
            actions[pair_index].hard_negatives.append(i)
    return [a for a in actions.values() if a.positives]


def mwap(predictions: Sequence[Prediction], examples: Sequence[Example], dialect: str = "") -> MetricResult:
    """mWAP, 0-100, with every class in the breakdown.

    In a bootstrap sample a clip counts as often as it was drawn; classes that lose all positives are left out of it.
    """
    scores, videos, actions = _inputs(predictions, examples)
    no_values = (None,) * len(examples)  # average precision belongs to classes
    if not actions:
        return MetricResult(None, no_values, why_undefined=UNDEFINED)
    rankings: list[tuple[RankedRows, NDArray[np.int64], NDArray[np.float64]]] = []
    for action in actions:
        rows = [i for group in action.groups for i in group]
        shares = [1 / n for group in action.groups for n in _clips_of_video(group, videos)]
        positive = np.arange(len(rows)) < len(action.positives)
        rankings.append((RankedRows(scores[rows, action.class_id], positive), np.array(rows), np.array(shares)))

    def per_class(times: NDArray[np.int64]) -> list[float | None]:
        return [ranked.average_precision(shares * times[rows]) for ranked, rows, shares in rankings]

    def resample(indices: NDArray[np.int64]) -> float | None:
        defined = [v for v in per_class(np.bincount(indices, minlength=len(examples))) if v is not None]
        return 100 * fmean(defined) if defined else None

    per_action = [v or 0.0 for v in per_class(np.ones(len(examples), dtype=np.int64))]
    breakdown: dict[str, float | None] = {
        f"class: {a.name}": 100 * v for a, v in sorted(zip(actions, per_action, strict=True), key=lambda x: x[0].name)
    }
    notes = {"classes averaged": str(len(actions))}
    return MetricResult(100 * fmean(per_action), no_values, breakdown, resample=resample, notes=notes)


def msap(predictions: Sequence[Prediction], examples: Sequence[Example], dialect: str = "") -> MetricResult:
    """mSAP, 0-100, over 100 seeded draws of one clip for each video and group. No interval: mWAP has one."""
    scores, videos, actions = _inputs(predictions, examples)
    no_values = (None,) * len(examples)
    if not actions:
        return MetricResult(None, no_values, why_undefined=UNDEFINED)
    per_draw = []
    for action in actions:
        rng = np.random.default_rng([SEED, action.class_id])
        groups = [_by_video(group, videos) for group in action.groups]
        values = []
        for _ in range(DRAWS):
            sampled = [[int(rng.choice(clips)) for clips in group] for group in groups]
            rows = [i for group in sampled for i in group]
            positive = np.arange(len(rows)) < len(sampled[0])
            value = RankedRows(scores[rows, action.class_id], positive).average_precision(np.ones(len(rows)))
            values.append(value or 0.0)
        per_draw.append(fmean(values))
    notes = {"classes averaged": str(len(actions)), "draws": f"{DRAWS}, seed {SEED}"}
    return MetricResult(100 * fmean(per_draw), no_values, notes=notes)


def _inputs(
    predictions: Sequence[Prediction], examples: Sequence[Example]
) -> tuple[NDArray[np.float64], list[str], list[Action]]:
    """float64[rows, classes], the video of each row, the classes."""
    scores = np.array([p.scores for p in predictions], dtype=np.float64)
    return scores, [str(e.labels["video_id"]) for e in examples], actions_of(examples)


def _clips_of_video(group: Sequence[int], videos: Sequence[str]) -> list[int]:
    """For every row of the group, how many rows of the group are of its video."""
    count = Counter(videos[i] for i in group)
    return [count[videos[i]] for i in group]


def _by_video(group: Sequence[int], videos: Sequence[str]) -> list[list[int]]:
    clips: dict[str, list[int]] = {}
    for i in group:
        clips.setdefault(videos[i], []).append(i)
    return list(clips.values())
