"""Run records -> a table of plain data -> text, Markdown, CSV, LaTeX, JSON. Reads records only; never imports a model.

Tasks are rows and shots are columns. A cell is the mean over seeds with a 95 % interval over queries (pictures) and,
apart from it, the spread over seeds: the two doubts are not mixed.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from flamingo_eval.results import RunFolder, read_json

METRIC_TITLES = {
    "vqa_accuracy": "VQA acc.",
    "cider": "CIDEr",
    "exact_match": "top-1",
    "top1": "top-1",
    "ivqa": "iVQA acc.",
    "ndcg": "NDCG",
    "roc_auc": "ROC AUC",
    "top1_top5_mean": "mean top-1/5",
    "star_mean": "mean of types",
    "wups": "WUPS",
    "mwap": "mWAP",
}


@dataclass(frozen=True, slots=True)
class Cell:
    """One number of the table: mean over seeds, interval over queries, spread over seeds, counts."""

    value: float | None
    ci95: tuple[float, float] | None
    seeds: tuple[int, ...]
    spread: float | None  # standard deviation over seeds; None for a single one
    n: int
    n_failed: int
    why_undefined: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Row:
    """One task as one model, protocol and way of choosing shots was measured on it."""

    task: str
    split: str
    metric: str
    model: str
    protocol: str
    demos: str
    ablation: str
    cells: dict[int, Cell]  # by shots

    @property
    def label(self) -> str:
        """The task, with whatever differs from a plain run beside it."""
        extra = [x for x in (self.demos if self.demos != "random" else "", self.ablation) if x]
        return f"{self.task} ({', '.join(extra)})" if extra else self.task


@dataclass(frozen=True, slots=True)
class Table:
    """Rows in the order of task, model, protocol; the shots that occur in any of them."""

    rows: tuple[Row, ...]
    shots: tuple[int, ...]


def table_of(folders: Sequence[RunFolder]) -> Table:
    """The table of complete runs: runs that differ only in seed share a cell."""
    from flamingo_eval.metrics.stats import over_seeds

    groups: dict[tuple[str, ...], dict[int, list[dict[str, Any]]]] = {}
    for folder in folders:
        scores = read_json(folder.scores)
        headline = scores["scores"][0]
        key = tuple(
            str(x)
            for x in (
                scores["task"],
                scores["split"],
                headline["metric"],
                scores["model"],
                scores["protocol"],
                scores["demos"],
                scores["ablation"],
            )
        )
        groups.setdefault(key, {}).setdefault(int(scores["shots"]), []).append(scores)
    rows = []
    for key in sorted(groups):
        cells = {k: _cell(runs, over_seeds) for k, runs in sorted(groups[key].items())}
        rows.append(Row(*key, cells=cells))
    shots = sorted({k for row in rows for k in row.cells})
    return Table(tuple(rows), tuple(shots))


def _cell(runs: Sequence[dict[str, Any]], over_seeds: Any) -> Cell:
    runs = sorted(runs, key=lambda r: r["seed"])
    heads = [r["scores"][0] for r in runs]
    value, ci, spread = over_seeds(
        [h["value"] for h in heads], [tuple(h["ci95"]) if h.get("ci95") else None for h in heads]
    )
    notes = dict.fromkeys(f"{k}: {v}" for h in heads for k, v in h.get("notes", {}).items())
    return Cell(
        value=value,
        ci95=ci,
        seeds=tuple(r["seed"] for r in runs),
        spread=spread,
        n=heads[0]["n"],
        n_failed=sum(h["n_failed"] for h in heads),
        why_undefined=next((h["why_undefined"] for h in heads if h["value"] is None), ""),
        notes=tuple(notes),
    )
