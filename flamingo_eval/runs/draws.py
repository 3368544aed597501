"""The bootstrap draws of a run's scores: recomputed from outputs.jsonl if possible, otherwise read from the record.

A headline metric that is the mean of its queries' own scores needs only outputs.jsonl (own scores, pictures). CIDEr,
ROC AUC and other corpus metrics need the references, and other metrics their own scores, which a record does not
contain. Their draws are one line of scores.json, so that tables and comparisons need no data.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from flamingo_eval.metrics.bootstrap import Draws, bootstrap, mean_of
from flamingo_eval.records import MetricResult, Output, Score


def draws_of(scores: Sequence[Score], index: int, outputs: Iterable[Output]) -> Draws:
    """The draws of a run's score, by its index; () if there are none (one picture, a metric without resampling)."""
    score = scores[index]
    if score.draws or index > 0 or score.value is None:
        return score.draws
    scored_outputs = [o for o in outputs if not o.error]
    result = MetricResult(score.value, tuple(o.score for o in scored_outputs))
    return bootstrap(result, [o.media for o in scored_outputs])[1]


def without_derived_draws(scores: Sequence[Score], outputs: Sequence[Output]) -> tuple[Score, ...]:
    """The scores for the record, without the headline's draws if they can be recomputed exactly."""
    without_draws = [replace(scores[0], draws=()), *scores[1:]]
    is_derived = draws_of(without_draws, 0, outputs) == scores[0].draws
    return tuple(without_draws if is_derived else scores)


def is_mean_of_queries(score: Score, outputs: Sequence[Output]) -> bool:
    """Whether a headline score is the mean of its queries' own scores, as outputs.jsonl has them.

    CIDEr is not such a mean: a query's share depends on the other queries, and so do the draws.
    """
    answered = [o for o in outputs if not o.error]
    mean = mean_of([o.score for o in answered])
    if mean is None or score.value is None or abs(mean - score.value) > 1e-6:
        return False
    return not score.draws or score.draws == draws_of((replace(score, draws=()),), 0, answered)
