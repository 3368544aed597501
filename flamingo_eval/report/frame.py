"""Finished runs as a pandas frame, for notebooks."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from flamingo_eval.records import Score
from flamingo_eval.report.diff import answer_of, outputs_by_id
from flamingo_eval.report.rows import RowKey, rows_of
from flamingo_eval.runs.folder import RunFolder, find_runs
from flamingo_eval.runs.record import read_run, read_scores

IDENTITY = ("task", "split", "model", "protocol", "demos", "ablation", "shots", "text_only_shots", "seed")


def load_results(
    path: str | os.PathLike[str] | Iterable[str | os.PathLike[str]] = "results",
    per: Literal["score", "query"] = "score",
) -> pd.DataFrame:
    """The complete runs in or below one or several folders, a row a score (all metrics), or a row a query.

    Scores: value, low and high (95 % interval), n, n_failed, why_undefined, beside what tells runs apart. `row`
    names the row of the table that a run belongs to: runs with the same `row`, `metric` and `shots` differ in the
    seed alone. `variant` names what else differs among runs of one name (`limit 100`). Queries: id, media (rows of
    one picture share it), shot ids, tokens, answer, own score of the headline metric (0-100, None where it has
    none), error. Raises RunError.
    """
    if per not in ("score", "query"):
        raise ValueError(f"per='{per}': 'score' or 'query'")
    places = [path] if isinstance(path, (str, os.PathLike)) else list(path)
    folders = find_runs([Path(p) for p in places])
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
    """`vqav2 val, tiny, flamingo, rices`: what makes a row of the table a row, the metric apart."""
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
            "folder": str(folder.path),
        }
        for output in outputs_by_id(folder).values()
    ]
