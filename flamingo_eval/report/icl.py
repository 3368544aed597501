"""What shots add, from finished runs: zero-shot score, peak, efficiency, change from the fewest to the most shots.

Efficiency is VL-ICL Bench's (arXiv 2403.13164): the area between the curve over shots and the line at the zero-shot
score, by trapezoids over a linear axis of shots, divided by the largest number of shots. It is the mean gain over zero
shots, in points.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flamingo_eval.metrics.bootstrap import Draws, OverSeeds, Paired, interval, over_seeds, paired
from flamingo_eval.report.rows import Recorded, rows_of
from flamingo_eval.runs.folder import RunFolder


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its 95 % bootstrap interval over pictures; both None where it is undefined."""

    value: float | None
    ci95: tuple[float, float] | None = None


NOTHING = Estimate(None)


@dataclass(frozen=True, slots=True)
class Curve:
    """What shots add to one row of the table, in points of its metric."""

    zero: Estimate  # at zero shots; undefined where that was not run
    peak: Estimate
    peak_shots: int
    efficiency: Estimate  # undefined without zero shots
    fewest: int
    most: int
    change: Paired | None  # from the fewest to the most shots, over the same pictures


def curve_of(scores: Mapping[int, OverSeeds]) -> Curve | None:
    """The curve of a row's scores by shots; None where there are none. All draws resample the same pictures."""
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
        zero=_estimate(scores[0]) if 0 in scores else NOTHING,
        peak=_estimate(scores[peak_shots]),
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


def _estimate(scores: OverSeeds) -> Estimate:
    return Estimate(scores.value, scores.ci95)


# -------------------------------------------------------------------------------------------------------------- table

TITLES = ("task", "metric", "model", "0 shots", "peak", "at", "efficiency", "change", "shots", "p")
NUMBERS_FROM = 3  # columns from here on hold numbers


@dataclass(frozen=True, slots=True)
class CurveRow:
    """One row of the results table and its curve."""

    task: str
    split: str
    metric: str
    model: str
    protocol: str
    variant: str  # choice of shots, ablation, and what else tells it from rows of its name
    curve: Curve


def curve_rows(folders: Sequence[RunFolder]) -> list[CurveRow]:
    """The curve of every row that was run at two numbers of shots or more; seeds are averaged."""
    rows: list[CurveRow] = []
    for key, records in rows_of(folders).items():
        task, split, metric, model, protocol, demos, ablation, variant = key
        curve = curve_of(_scores(records))
        if curve is not None and curve.most > curve.fewest:
            words = ", ".join(filter(None, (demos if demos != "random" else "", ablation, variant)))
            rows.append(CurveRow(task, split, metric, model, protocol, words, curve))
    return rows


def _scores(records: Sequence[Recorded]) -> dict[int, OverSeeds]:
    by_shots: dict[int, list[Recorded]] = {}
    for record in records:
        by_shots.setdefault(record.scores.shots, []).append(record)
    scores: dict[int, OverSeeds] = {}
    for shots, runs in by_shots.items():
        values = [r.scores.headline.value for r in runs]
        defined = [v for v in values if v is not None]
        if len(defined) == len(values) and not any(r.scores.headline.n_failed for r in runs):
            scores[shots] = over_seeds(defined, [r.draws(r.scores.headline.metric) for r in runs])
    return scores


def curve_line(row: CurveRow) -> list[str]:
    """The row's cells as text, in the order of TITLES."""
    curve = row.curve
    task = f"{row.task} ({row.variant})" if row.variant else row.task
    change, p = "-", "-"
    if curve.change is not None:
        low, high = curve.change.ci95
        change = f"{curve.change.difference:+.1f} ({low:+.1f} to {high:+.1f})"
        p = "< 0.001" if curve.change.p_value < 0.001 else f"{curve.change.p_value:.3f}"
    return [
        f"{task}, {row.split}",
        row.metric,
        row.model,
        _text(curve.zero),
        _text(curve.peak),
        str(curve.peak_shots),
        _text(curve.efficiency, signed=True),
        change,
        f"{curve.fewest} to {curve.most}",
        p,
    ]


def _text(estimate: Estimate, signed: bool = False) -> str:
    if estimate.value is None:
        return "-"
    value = f"{estimate.value:+.1f}" if signed else f"{estimate.value:.1f}"
    return value if estimate.ci95 is None else f"{value} ±{(estimate.ci95[1] - estimate.ci95[0]) / 2:.1f}"
