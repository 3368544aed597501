"""Finished runs as a pandas frame, for notebooks."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from flamingo_eval.records import Score
from flamingo_eval.report.copying import Estimate
from flamingo_eval.report.diff import answer_of, outputs_by_id
from flamingo_eval.report.icl import CardRow, card_rows
from flamingo_eval.report.rows import RowKey, rows_of
from flamingo_eval.runs.folder import RunFolder, find_runs
from flamingo_eval.runs.record import read_run, read_scores

IDENTITY = ("task", "split", "model", "protocol", "demos", "ablation", "shots", "text_only_shots", "seed")


def load_results(
    path: str | os.PathLike[str] | Iterable[str | os.PathLike[str]] = "results",
    per: Literal["score", "query", "shots"] = "score",
    data: str | os.PathLike[str] | None = None,
) -> pd.DataFrame:
    """The complete runs in or below some folders: one row per score (all metrics), query or number of shots.

    Scores: value, low and high (95 % interval), n, n_failed, why_undefined, and the run's settings. `row` names the row
    of the table that a run belongs to: runs with the same `row`, `metric` and `shots` differ only in the seed.
    `variant` names other differences between runs of one name (`limit 100`). Queries: id, media (rows of
    one picture share it), shot ids, tokens, answer, own score of the headline metric (0-100, None if it has
    none), error, and what the answer copied from its shots: copied, majority, last, covered (docs/scores.md). Shots:
    the in-context card, seeds averaged: score, copied, ... with `_low` and `_high`, the curve of the row (the same at
    all of its shots) and the verdict; `data` is the folder of official files, for runs that do not record copying.
    Raises RunError.
    """
    if per not in ("score", "query", "shots"):
        raise ValueError(f"per='{per}': 'score', 'query' or 'shots'")
    paths = [path] if isinstance(path, (str, os.PathLike)) else list(path)
    folders = find_runs([Path(p) for p in paths])
    if per == "shots":
        rows_of_card = card_rows(folders, None if data is None else os.fspath(data))
        return pd.DataFrame([line for row in rows_of_card for line in _card(row)])
    keys = {r.folder.path: key for key, records in rows_of(folders).items() for r in records}
    rows: list[dict[str, Any]] = []
    for folder in folders:
        if folder.path in keys:  # a duplicate of a run counts once
            rows += (_scores if per == "score" else _queries)(folder, keys[folder.path])
    return pd.DataFrame(rows)


def _identity(folder: RunFolder, key: RowKey) -> tuple[dict[str, Any], tuple[Score, ...]]:
    record = read_scores(folder.scores)
    identity = {name: getattr(record, name) for name in IDENTITY}
    return {**identity, "variant": key[-1], "row": _row_label(key)}, record.scores


def _row_label(key: RowKey) -> str:
    """`vqav2 val, tiny, flamingo, rices`: the settings that identify a row of the table, without the metric."""
    task, split, _, model, protocol, demos, ablation, variant = key
    return ", ".join(filter(None, (f"{task} {split}", model, protocol, demos, ablation, variant)))


def _scores(folder: RunFolder, key: RowKey) -> list[dict[str, Any]]:
    identity, scores = _identity(folder, key)
    record = read_run(folder.run)
    rows = []
    for number, score in enumerate(scores):
        low, high = score.ci95 or (None, None)
        rows.append(
            {
                **identity,
                "metric": score.metric,
                "headline": number == 0,
                "value": score.value,
                "low": low,
                "high": high,
                "n": score.n,
                "n_failed": score.n_failed,
                "why_undefined": score.why_undefined,
                "seconds": record.timings.seconds,
                "commit": record.provenance.commit,
                "folder": str(folder.path),
            }
        )
    return rows


def _card(row: CardRow) -> list[dict[str, Any]]:
    key = (row.task, row.split, row.metric, row.model, row.protocol, row.demos, row.ablation, row.variant)
    identity = {name: getattr(row, name) for name in IDENTITY if hasattr(row, name)}
    shared = {**identity, "variant": row.variant, "row": _row_label(key), "metric": row.metric}
    lines = []
    for at in row.copying:
        line: dict[str, Any] = {**shared, "shots": at.shots}
        for field in fields(at):
            value = getattr(at, field.name)
            if isinstance(value, Estimate):
                line |= _bounds(field.name, value)
        lines.append({**line, **_curve(row), "verdict": row.verdict.kind, "in_words": row.verdict.text, "why": at.why})
    return lines


def _bounds(name: str, estimate: Estimate) -> dict[str, float | None]:
    low, high = estimate.ci95 or (None, None)
    return {name: estimate.value, f"{name}_low": low, f"{name}_high": high}


def _curve(row: CardRow) -> dict[str, float | None]:
    if row.curve is None:
        return {}
    change = row.curve.change
    low, high = change.ci95 if change else (None, None)
    return {
        **_bounds("zero", row.curve.zero),
        **_bounds("peak", row.curve.peak),
        "peak_shots": row.curve.peak_shots,
        **_bounds("efficiency", row.curve.efficiency),
        "change": change.difference if change else None,
        "change_low": low,
        "change_high": high,
        "change_p": change.p_value if change else None,
    }


def _queries(folder: RunFolder, key: RowKey) -> list[dict[str, Any]]:
    identity, scores = _identity(folder, key)
    return [
        {
            **identity,
            "metric": scores[0].metric,
            "id": output.id,
            "media": output.media,
            "shot_ids": output.shots,
            "tokens": output.tokens,
            "answer": None if output.error else answer_of(output),
            "score": output.score,
            "error": output.error,
            "copied": None if output.copying is None else output.copying.any,
            "majority": None if output.copying is None else output.copying.majority,
            "last": None if output.copying is None else output.copying.last,
            "covered": None if output.copying is None else output.copying.covered,
            "folder": str(folder.path),
        }
        for output in outputs_by_id(folder).values()
    ]
