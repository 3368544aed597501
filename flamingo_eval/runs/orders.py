"""Answers to one query in several orders of its shots (`export --permutations`) -> one row with the mean scores."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from flamingo_eval.errors import PredictionError, Problem, problems_in
from flamingo_eval.runs.prediction_forms import Row

ORDER, SCORES = "order", "scores"


def averaged_orders(rows: Sequence[Row], path: Path) -> list[Row]:
    """One row per query, averaged over its orders. Raises PredictionError if an order or its scores are missing."""
    orders: dict[str, dict[int, Row]] = {}
    kept: list[Row] = []
    problems: list[Problem] = []
    for row in rows:
        order, id = row.values.get(ORDER), str(row.values.get("id"))
        if type(order) is not int or not isinstance(row.values.get("shot_ids"), list):
            kept.append(row)
        elif order in orders.setdefault(id, {}):
            problems.append(row.problem(f"duplicate order {order} of query '{id}'.", path))
        else:
            orders[id][order] = row
    most = max(map(len, orders.values()), default=0)
    for id, by_order in orders.items():
        first = by_order[min(by_order)]
        if len(by_order) < most:
            problems.append(first.problem(f"query '{id}' has answers in {len(by_order)} of {most} orders.", path))
            continue
        scores = [_numbers(row.values.get(SCORES)) for row in by_order.values()]
        if not all(scores) or len({len(s) for s in scores}) > 1:
            what = f"query '{id}': every order needs `{SCORES}`, a number for each candidate."
            problems.append(first.problem(what, path))
            continue
        means = [sum(sorted(column)) / most for column in zip(*scores, strict=True)]
        values = {k: v for k, v in first.values.items() if k != ORDER} | {SCORES: means}
        kept.append(Row(values, first.line, first.entry))
    if problems:
        raise problems_in(path, problems, PredictionError)
    return kept


def _numbers(value: object) -> list[float]:
    """A list of numbers; empty for anything else."""
    whole = isinstance(value, list) and all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in value)
    return [float(v) for v in value] if whole and isinstance(value, list) else []
