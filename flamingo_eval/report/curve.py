"""In-context gain of a row: zero-shot score, peak, efficiency, change from the fewest to the most shots.

Efficiency is VL-ICL Bench's (arXiv 2403.13164): the area between the curve over shots and the line at the zero-shot
score, by trapezoids over a linear axis of shots, divided by the largest number of shots. It is the mean gain over zero
shots, in points.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flamingo_eval.metrics.bootstrap import Draws, OverSeeds, Paired, interval, paired
from flamingo_eval.report.copying import NOTHING, Estimate


@dataclass(frozen=True, slots=True)
class Curve:
    """The in-context gain of one row of the table, in points of its metric."""

    zero: Estimate  # at zero shots; undefined if not run
    peak: Estimate
    peak_shots: int
    efficiency: Estimate  # undefined without zero shots
    fewest: int
    most: int
    change: Paired | None  # from the fewest to the most shots, over the same pictures


def curve_of(scores: Mapping[int, OverSeeds]) -> Curve | None:
    """The curve of a row's scores by shots; None without scores. All draws resample the same pictures."""
    if not scores:
        return None
    shots = sorted(scores)
    peak_shots = max(shots, key=lambda k: (scores[k].value, -k))
    fewest, most = shots[0], shots[-1]
    change = None
    if most > fewest:
        a, b = scores[fewest], scores[most]
        change = paired(a.value, b.value, a.draws, b.draws)
    return Curve(
        zero=Estimate.of(scores[0]) if 0 in scores else NOTHING,
        peak=Estimate.of(scores[peak_shots]),
        peak_shots=peak_shots,
        efficiency=_efficiency(scores) if fewest == 0 < most else NOTHING,
        fewest=fewest,
        most=most,
        change=change,
    )


def efficiency(scores: Mapping[int, float]) -> float:
    """Area between the scores over shots and the zero-shot score, by trapezoids, divided by the most shots. In points.

    Needs zero shots and one more number of shots.
    """
    shots = sorted(scores)
    gains = [scores[k] - scores[0] for k in shots]
    steps = zip(shots, shots[1:], gains, gains[1:], strict=False)
    return sum((right - left) * (low + high) / 2 for left, right, low, high in steps) / shots[-1]


def _efficiency(scores: Mapping[int, OverSeeds]) -> Estimate:
    value = efficiency({k: s.value for k, s in scores.items()})
    length = len(scores[0].draws)
    if not length or any(len(s.draws) != length for s in scores.values()):
        return Estimate(value)
    draws: list[float | None] = []
    for i in range(length):
        row = {k: s.draws[i] for k, s in scores.items()}
        defined = {k: v for k, v in row.items() if v is not None}
        draws.append(efficiency(defined) if len(defined) == len(row) else None)
    return Estimate(value, _signed_interval(draws, value))


def _signed_interval(draws: Sequence[float | None], value: float) -> tuple[float, float] | None:
    """As metrics.bootstrap.interval, for a quantity that may be negative."""
    lowest = min((d for d in draws if d is not None), default=0.0)
    offset = max(0.0, -lowest) + 1.0
    shifted: Draws = tuple(None if d is None else d + offset for d in draws)
    bounds = interval(shifted, value + offset)
    return None if bounds is None else (bounds[0] - offset, bounds[1] - offset)
