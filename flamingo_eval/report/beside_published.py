"""Published scores next to our own, if task, split, metric and shots agree; differences of protocol are noted.

A source that does not state its split is never shown. Scores on the embedded sample are never compared with published
ones.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import groupby

from flamingo_eval.config.specs import RunSpec
from flamingo_eval.metrics import METRICS
from flamingo_eval.report.published import PRACTICES, Published, find_model, published
from flamingo_eval.report.rows import rows_of
from flamingo_eval.report.tables import Cell, Row, Table
from flamingo_eval.runs.folder import RunFolder
from flamingo_eval.runs.record import RunRecord

OFFICIAL = "official"  # the benchmark's own scorer

# STAR's `top-1` is read as the mean over question types (MetricRow.published), as its leaderboard does; the paper's
# text leaves that open (see `Practice.unstated`).


def compared(table: Table, folders: Sequence[RunFolder], names: Sequence[str]) -> Table:
    """The table with a row of each given model's published scores below every row that they can be compared with.

    Other published scores are left out; a note of the table says why.
    """
    model_names = [find_model(n) for n in names]
    records = {key: [r.run for r in differing] for key, differing in rows_of(folders).items()}
    rows: list[Row] = []
    left_out: dict[str, None] = {}
    notes: dict[str, int] = {}
    for _, group in groupby(table.rows, key=lambda r: (r.task, r.split)):
        published_rows: dict[tuple[str, str, str, int], Row] = {}
        for row in group:
            rows.append(row)
            for name in model_names if row.key in records else ():
                values, reasons = _beside(row, name, records[row.key])
                left_out |= dict.fromkeys(reasons)
                for p, cells, differing in values:
                    number = notes.setdefault(_footnote(p, cells, differing), len(notes) + 1)
                    published_row = _row(p, row, cells, differing, number)
                    key = (row.metric, p.model, p.selection, number)
                    published_rows[key] = replace(
                        published_row, cells={**published_rows.get(key, published_row).cells, **cells}
                    )
        rows += published_rows.values()
    footnotes = tuple(f"[{number}] {note}" for note, number in notes.items())
    return replace(table, rows=tuple(rows), footnotes=(*footnotes, *left_out))


def _row(p: Published, own_row: Row, cells: dict[int, Cell], differing: tuple[str, ...], number: int) -> Row:
    names = (own_row.task, p.split, own_row.metric, p.model, p.asked_in, p.selection, "")
    return Row(*names, cells=cells, published=f"{p.title}, {p.where}", differences=differing, footnote=number)


_Given = tuple[Published, dict[int, Cell], tuple[str, ...]]


def _beside(row: Row, model: str, records: Sequence[RunRecord]) -> tuple[list[_Given], list[str]]:
    """The published scores for a row, and why others of the same task are left out."""
    if "@sample" in row.task:
        return [], [f"{model} is not shown next to {row.task}: sample scores are never compared with published ones"]
    all_shots = next((r.spec.demos.shots for r in records if r.spec.demos.every), None)
    candidates = [p.at_all_shots(all_shots) for p in published() if p.model == model and p.task == row.task]
    if not candidates:
        return [], [f"{model} has no published score on {row.task}"]
    values: list[_Given] = []
    notes: list[str] = []
    for p in candidates:
        reason = disagreement(p, row)
        if reason:
            notes.append(f"{model} on {row.task} is left out: {reason}")
            continue
        cells = {
            k: Cell(v, None, (), p.std.get(k), None, 0, notes=(p.conflicts[k],) if k in p.conflicts else ())
            for k, v in p.values.items()
            if k in row.cells
        }
        values.append((p, cells, differences(p, row, records)))
    same_choice = [g for g in values if g[0].selection == row.demos]
    return same_choice or values, [] if values else notes


def disagreement(p: Published, row: Row) -> str:
    """Why a published score cannot be compared with a row; "" if task, split, metric and shots agree."""
    if row.metric not in METRICS or METRICS[row.metric].published != p.metric:
        return f"its metric is {p.metric}, ours {row.metric}"
    if p.split == "not stated":
        return "its source does not state the split"
    if _split_name(p.split) != _split_name(row.split):
        return f"it is of split {p.split}, ours of {row.split}"
    if not set(p.values) & set(row.cells):
        theirs = ", ".join(filter(None, (_list(p.values), "all" if p.all_shots is not None else "")))
        return f"it is of {theirs} shots, ours of {_list(row.cells)}"
    return ""


def _split_name(split: str) -> str:
    """`test (Karpathy)` -> `test`, `test seen` and `test_seen` -> `test-seen`, `validation` -> `val`."""
    name = re.sub(r"\s*\(.*\)$", "", split.lower())
    return re.sub(r"[\s_]+", "-", name).replace("validation", "val")


def differences(p: Published, row: Row, records: Sequence[RunRecord]) -> tuple[str, ...]:
    """How a source's protocol differs from our runs' (their run.json), as far as it states it."""
    spec = records[0].spec
    practice = PRACTICES[p.source]
    is_open = spec.task.mode == "open-ended"
    pairs: list[tuple[str, object, object]] = [
        ("prompts", p.asked_in, row.protocol),
        ("choice of shots", p.selection, row.demos),
        ("support size", p.support_size, spec.demos.support_size),
        ("support per class", p.support_per_class, spec.demos.support_per_class),
        ("ablation", "none", row.ablation or "none"),
    ]
    if 0 in p.values and 0 in row.cells:
        published_value = practice.text_only_open if is_open else practice.text_only_close
        pairs.append(("text-only shots at 0 shots", published_value, spec.text_only_shots))
    if is_open:
        pairs.append(("beams", practice.beams, spec.decode.beams))
        pairs.append(("length penalty", practice.length_penalty, spec.decode.length_penalty))
    else:
        pairs.append(("orders averaged", practice.permutations, spec.rank.permutations))
        pairs.append(("over a candidate's tokens", practice.normalise, spec.rank.normalise))
        pairs.append(("candidates to score", practice.wanted, spec.rank.wanted))
    if row.metric == "vqa_accuracy" or p.metric == "vl_icl_accuracy" or (is_open and practice.dialect == "smmile"):
        pairs.append(("answer scoring", practice.dialect or OFFICIAL, _dialect(spec)))
    if row.metric == "star_mean":
        pairs.append(("metric", "top-1, used as the mean over question types", "mean over question types"))
    if p.seeds is not None:
        pairs.append(("seeds", p.seeds, len({r.spec.demos.seed for r in records})))
    texts = [
        f"{setting}: theirs {published_value}, ours {own_value}"
        for setting, published_value, own_value in pairs
        if published_value not in (None, own_value)
    ]
    counts = [r.counts for r in records]
    official = spec.task.data.counts.get(row.split, 0)
    complete = max(official, *(c.of for c in counts))
    if any(c.queries < complete for c in counts):
        texts.append(f"queries: ours {min(c.queries for c in counts)} of {complete}")
    if any(c.failed for c in counts):
        texts.append(f"queries: {sum(c.failed for c in counts)} of ours failed and were not scored")
    return tuple(texts)


def _dialect(spec: RunSpec) -> str:
    """`official` for each benchmark's own scorer, whatever its name; otherwise the dialect's name."""
    dialect = spec.task.metrics[0].dialect or spec.prompt.metric_dialect
    return OFFICIAL if dialect in ("", "textvqa", "vizwiz") else dialect


def _footnote(p: Published, cells: Mapping[int, Cell], differing: Sequence[str]) -> str:
    unstated = PRACTICES[p.source].unstated
    sentences = [
        f"{p.model}, published: {p.title}, {p.where}",
        f"differs: {'; '.join(differing)}" if differing else "no known difference of protocol",
        f"its source does not state {unstated}" if unstated else "",
        *(f"{k} shots: {p.conflicts[k]}".rstrip(".") for k in cells if k in p.conflicts),
        p.notes.rstrip("."),
    ]
    return ". ".join(s for s in sentences if s)


def _list(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(numbers)))
