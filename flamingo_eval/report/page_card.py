"""The in-context card on the page: a table of curves with their verdicts, and a table of copying."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from flamingo_eval.report.copying import NOTHING, Estimate
from flamingo_eval.report.icl import COPYING_TITLES, CardRow, copying_figures, names_of
from flamingo_eval.report.shown_table import ShownCell, ShownRow, ShownTable
from flamingo_eval.report.tables import METRIC_TITLES
from flamingo_eval.report.verdict import Kind

COLOURS: Mapping[Kind, str] = {"rises": "good", "nothing": "warn", "copies": "warn", "no more": "warn"}
CURVE_TITLES = ("task", "what the curve shows", "metric", "0 shots", "peak", "at", "efficiency", "change", "p")


def curve_table(rows: Sequence[CardRow]) -> ShownTable:
    """One line per row of the results: the verdict, and the curve's numbers."""
    lines = []
    for name, row in zip(names_of(rows), rows, strict=True):
        sentence = ShownCell(row.verdict.text, row.verdict.text, verdict=COLOURS.get(row.verdict.kind, "plain"))
        metric = METRIC_TITLES.get(row.metric, row.metric)
        lines.append(ShownRow((ShownCell(name, name), sentence, ShownCell(metric, metric), *_curve_cells(row))))
    return ShownTable("What shots add", CURVE_TITLES, tuple(lines), 3)


def _curve_cells(row: CardRow) -> tuple[ShownCell, ...]:
    curve = row.curve
    if curve is None or curve.most == curve.fewest:
        return (_cell(curve.zero if curve else NOTHING), *(ShownCell("–", "") for _ in range(5)))
    change = curve.change
    changed = ShownCell("–", "") if change is None else _cell(Estimate(change.difference, change.ci95), signed=True)
    p = "–" if change is None else "< 0.001" if change.p_value < 0.001 else f"{change.p_value:.3f}"
    return (
        _cell(curve.zero),
        _cell(curve.peak),
        ShownCell(str(curve.peak_shots), str(curve.peak_shots)),
        _cell(curve.efficiency, signed=True),
        changed,
        ShownCell(p, "" if change is None else repr(change.p_value)),
    )


def copying_table(rows: Sequence[CardRow]) -> ShownTable:
    """One line per row of the results and number of shots: shares of copied answers, baselines, coverage."""
    lines = [
        ShownRow((ShownCell(name, name), ShownCell(str(at.shots), str(at.shots)), *map(_cell, copying_figures(at))))
        for name, row in zip(names_of(rows), rows, strict=True)
        for at in row.copying
        if not at.why
    ]
    return ShownTable("What is copied from the shots", COPYING_TITLES, tuple(lines), 1)


def _cell(estimate: Estimate, signed: bool = False) -> ShownCell:
    if estimate.value is None:
        return ShownCell("–", "")
    text = f"{estimate.value:+.1f}" if signed else f"{estimate.value:.1f}"
    if estimate.ci95 is None:
        return ShownCell(text, repr(estimate.value))
    low, high = estimate.ci95
    return ShownCell(text, repr(estimate.value), f"±{(high - low) / 2:.1f}", f"95 % interval {low:.2f} to {high:.2f}")
