"""Uncertainty of scores: bootstrap intervals over pictures, and paired comparisons.

Several questions about one picture are not independent, so whole pictures (clips) are drawn. The draws depend only on
the set of pictures: two runs over the same queries use the same draws, and their difference is a paired one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import fmean, stdev
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from flamingo_eval.records import MetricResult

DRAWS = 1000
SEED = 2204_14198  # any fixed number: the paper's arXiv number
DECIMALS = 4  # of a stored draw: a thousandth of the precision of tables
KEPT_COUNTS = 48 * 2**20  # largest number of counts to cache for the next run: 96 MB, enough for COCO's val2014
LEAST_DEFINED = 0.9  # share of draws that must have a value; fewer would bias the interval


def clusters(media_ids: Sequence[str]) -> list[NDArray[np.int64]]:
    """Row indices by picture, in the order of the pictures' ids."""
    rows: dict[str, list[int]] = {}
    for i, id in enumerate(media_ids):
        rows.setdefault(id, []).append(i)
    return [np.array(rows[id]) for id in sorted(rows)]


def draw_counts(n_clusters: int, draws: int = DRAWS) -> Iterator[NDArray[np.int64]]:
    """How often each picture is drawn in each bootstrap sample: int64[n_clusters], `draws` times."""
    if n_clusters * draws <= KEPT_COUNTS:
        yield from (row.astype(np.int64) for row in _kept_counts(n_clusters, draws))
    else:
        yield from _new_counts(n_clusters, draws)


@lru_cache(maxsize=2)
def _kept_counts(n_clusters: int, draws: int) -> NDArray[np.uint16]:
    """Cached counts, uint16[draws, n_clusters]: runs of one task share them, and a report needs them for many runs."""
    compact = np.empty((draws, n_clusters), np.uint16)
    for row, counts in zip(compact, _new_counts(n_clusters, draws), strict=True):
        row[:] = counts
    return compact


def _new_counts(n_clusters: int, draws: int) -> Iterator[NDArray[np.int64]]:
    rng = np.random.default_rng(SEED)
    p = np.full(n_clusters, 1 / n_clusters)
    for _ in range(draws):
        yield rng.multinomial(n_clusters, p)


Draws: TypeAlias = tuple[float | None, ...]  # None: the metric is undefined on that draw


def bootstrap(
    result: MetricResult, media_ids: Sequence[str], draws: int = DRAWS
) -> tuple[tuple[float, float] | None, Draws]:
    """95 % interval of a metric, and its draws; None and () if there can be no interval.

    With fewer than two pictures, or for a corpus metric without `resample`, there is no interval. A draw in which the
    metric is undefined (one class only, for ROC AUC) stays in the sequence as None, so that the draws of two runs stay
    aligned.
    """
    groups = clusters(media_ids)
    if result.value is None or len(groups) < 2:
        return None, ()
    if result.resample is None and abs((mean_of(result.per_example) or 0.0) - result.value) > 1e-6:
        return None, ()  # a corpus value without `resample` (METEOR); the mean of its rows is another quantity
    values = _mean_draws(result, groups, draws) if result.resample is None else _draws(result, groups, draws)
    draws_of_metric = tuple(None if v is None else round(float(v), DECIMALS) for v in values)
    return interval(draws_of_metric, result.value), draws_of_metric


def interval(draws: Sequence[float | None], value: float) -> tuple[float, float] | None:
    """The 95 % interval of `value`: the middle 95 % of the draws, or of the draws shifted to the value (`_middle`).

    Draws without a value are left out. None if too few draws have a value, or if all draws are equal: resampling
    queries
    that all have the same score (all right, for example) cannot estimate an interval.
    """
    defined = [d for d in draws if d is not None]
    if not defined or len(defined) < LEAST_DEFINED * len(draws) or min(defined) == max(defined):
        return None
    low, high, _ = _middle(defined, value)
    return max(0.0, low), high  # no metric goes below 0


def _middle(draws: Sequence[float] | NDArray[np.float64], value: float) -> tuple[float, float, float]:
    """Ends of the middle 95 % of the draws, and how far the draws were shifted.

    Drawing with repetition shifts some metrics: mWAP rises with repeated clips, CIDEr falls with fewer different
    pictures.
    If the middle 95 % do not contain the value, they are an interval of another quantity. The draws are then shifted
    until
    their median is the value, which keeps their width and shape. (A basic or bias-corrected interval would move to the
    other side and not contain the value either.)
    """
    low, median, high = map(float, np.percentile(np.asarray(draws), [2.5, 50, 97.5]))
    shift = 0.0 if low <= value <= high else value - median
    return low + shift, high + shift, shift


def draws_note(draws: Sequence[float | None], value: float) -> str:
    """A note about the draws for readers of the score; "" if there is nothing to note."""
    defined = [d for d in draws if d is not None]
    n_undefined = len(draws) - len(defined)
    notes = [f"undefined on {n_undefined:,} of {len(draws):,} draws"] if n_undefined else []
    if draws and interval(draws, value) is None:
        too_many = len(defined) < LEAST_DEFINED * len(draws)
        all_equal = "every other draw is the same" if n_undefined else "every draw is the same"
        notes.append(f"{'too many' if too_many else all_equal}, so there is no interval")
    elif draws and (shift := _middle(defined, value)[2]):
        side = "below" if shift > 0 else "above"
        notes.append(f"the draws are {side} the value: the interval is shifted by {shift:+.2f}")
    return ", ".join(notes)


def _mean_draws(result: MetricResult, groups: Sequence[NDArray[np.int64]], draws: int) -> list[float | None]:
    own_values = np.array([np.nan if v is None else v for v in result.per_example], dtype=np.float64)
    sums = np.array([np.nansum(own_values[rows]) for rows in groups])
    sizes = np.array([np.count_nonzero(~np.isnan(own_values[rows])) for rows in groups])
    values: list[float | None] = []
    for counts in draw_counts(len(groups), draws):
        n = counts @ sizes
        values.append(float(counts @ sums / n) if n else None)
    return values


def mean_draws(columns: Sequence[Sequence[float | None]], media_ids: Sequence[str]) -> list[Draws]:
    """The draws of the means of several columns over the same rows, as from `bootstrap`; () for one picture.

    A row with value None is not part of its column's mean.
    """
    groups = clusters(media_ids)
    if len(groups) < 2:
        return [()] * len(columns)
    values = np.array([[np.nan if v is None else v for v in column] for column in columns], dtype=np.float64)
    has_value = ~np.isnan(values)
    sums = np.array([np.nan_to_num(values)[:, rows].sum(axis=1) for rows in groups])
    sizes = np.array([has_value[:, rows].sum(axis=1) for rows in groups], dtype=np.float64)
    draws: list[list[float | None]] = [[] for _ in columns]
    for counts in draw_counts(len(groups)):
        for column, total, n in zip(draws, counts @ sums, counts @ sizes, strict=True):
            column.append(round(float(total / n), DECIMALS) if n else None)
    return [tuple(column) for column in draws]


def _draws(result: MetricResult, groups: Sequence[NDArray[np.int64]], draws: int) -> list[float | None]:
    assert result.resample is not None
    values = []
    for counts in draw_counts(len(groups), draws):
        indices = np.concatenate([np.tile(rows, n) for rows, n in zip(groups, counts.tolist(), strict=True)])
        values.append(result.resample(indices))
    return values


@dataclass(frozen=True, slots=True)
class Paired:
    """b - a over the same pictures: the difference, its 95 % interval, and the p-value of a larger difference by
    chance.
    """

    difference: float
    ci95: tuple[float, float]
    p_value: float


def paired(a: float, b: float, draws_a: Sequence[float | None], draws_b: Sequence[float | None]) -> Paired | None:
    """Compare two runs by their aligned bootstrap draws; None if they were not resampled over the same pictures.

    The two-sided p-value is from the bootstrap distribution of the difference, shifted to no difference. Draws in which
    one of the two is undefined are left out; None if too few are left.
    """
    if not draws_a or len(draws_a) != len(draws_b):
        return None
    pairs = [(x, y) for x, y in zip(draws_a, draws_b, strict=True) if x is not None and y is not None]
    if len(pairs) < LEAST_DEFINED * len(draws_a):
        return None
    differences = np.array([y - x for x, y in pairs])
    difference = b - a
    n_extreme = np.count_nonzero(np.abs(differences - difference) >= abs(difference))
    low, high, _ = _middle(differences, difference)
    return Paired(difference, (low, high), float((n_extreme + 1) / (len(differences) + 1)))


@dataclass(frozen=True, slots=True)
class OverSeeds:
    """Runs that differ only in their seed: their mean, its interval over queries, and separately their spread."""

    value: float
    ci95: tuple[float, float] | None  # uncertainty from the choice of queries; seeds are averaged in each draw
    spread: float | None  # standard deviation between seeds (n - 1); None for one seed
    draws: Draws


def over_seeds(values: Sequence[float], draws: Sequence[Sequence[float | None]]) -> OverSeeds:
    """Aggregate seeds run over the same queries: draw i of every seed resamples the same pictures, so draws are
    averaged.

    If the draws of the seeds do not align (other queries, or an undefined interval), the mean has no interval.
    """
    aligned = bool(draws) and all(len(d) == len(draws[0]) > 0 for d in draws)
    averaged = tuple(map(_mean_or_none, zip(*draws, strict=True))) if aligned else ()
    mean = fmean(values)
    return OverSeeds(mean, interval(averaged, mean), stdev(values) if len(values) > 1 else None, averaged)


def _mean_or_none(values: Sequence[float | None]) -> float | None:
    """The mean, or None if a value is missing."""
    defined = [v for v in values if v is not None]
    return fmean(defined) if len(defined) == len(values) else None


def group_means(values: Sequence[float], groups: Sequence[str | None], label: str) -> dict[str, float]:
    """Mean of the values of each group, named `label: group` and sorted by name; rows of group None are left out."""
    members: dict[str, list[float]] = {}
    for value, group in zip(values, groups, strict=True):
        if group is not None:
            members.setdefault(group, []).append(value)
    return {f"{label}: {group}": fmean(members[group]) for group in sorted(members)}


def mean_of(values: Sequence[float | None]) -> float | None:
    """Mean of the values that are not None; None if there are none."""
    defined = [v for v in values if v is not None]
    return fmean(defined) if defined else None
