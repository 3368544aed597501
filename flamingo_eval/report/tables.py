"""Run records -> a table of plain data -> text, Markdown, CSV, LaTeX, JSON. Never imports a model.

Tasks are rows and shots are columns. A cell is the mean over seeds with a 95 % interval over queries (pictures) and,
apart from it, the spread over seeds: the two doubts are not mixed.
"""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

from flamingo_eval.metrics.bootstrap import over_seeds
from flamingo_eval.report.rows import Recorded, RowKey, rows_of
from flamingo_eval.runs.folder import CEILING, RunFolder, read_outputs

METRIC_TITLES = {
    CEILING: "ceiling: answer shown",
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
    n: int | None  # queries; None where a source does not say
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
    published: str = ""  # where the numbers are printed; empty: they are ours
    differences: tuple[str, ...] = ()  # published: how it was measured otherwise than ours
    footnote: int = 0  # published: number of its note below the table
    variant: str = ""  # what tells it from rows of the same name (rows.py): `limit 100`

    @property
    def key(self) -> RowKey:
        """The row's key in rows_of()."""
        names = (self.task, self.split, self.metric, self.model, self.protocol, self.demos, self.ablation)
        return (*names, self.variant)

    @property
    def model_label(self) -> str:
        """The model; a published one with the number of its note."""
        return f"{self.model} [{self.footnote}]" if self.published else self.model

    @property
    def label(self) -> str:
        """The task, with whatever differs from a plain run beside it."""
        extra = [x for x in (self.demos if self.demos != "random" else "", self.ablation, self.variant) if x]
        return f"{self.task} ({', '.join(extra)})" if extra else self.task


@dataclass(frozen=True, slots=True)
class Table:
    """Rows in the order of task, model, protocol; the shots that occur in any of them."""

    rows: tuple[Row, ...]
    shots: tuple[int, ...]
    footnotes: tuple[str, ...] = ()  # sources and differences of published rows, and what was left out


def table_of(folders: Sequence[RunFolder]) -> Table:
    """The table of complete runs: runs that differ only in seed share a cell."""
    rows: list[Row] = []
    for key, records in rows_of(folders).items():
        by_shots: dict[int, list[Recorded]] = {}
        for record in sorted(records, key=lambda r: (int(r.scores["shots"]), int(r.scores["seed"]))):
            by_shots.setdefault(int(record.scores["shots"]), []).append(record)
        task, split, metric, model, protocol, demos, ablation, variant = key
        cells = {k: _cell(runs) for k, runs in by_shots.items()}
        rows.append(Row(task, split, metric, model, protocol, demos, ablation, cells, variant=variant))
        ceilings = {k: cell for k, runs in by_shots.items() if (cell := _ceiling(runs)) is not None}
        if ceilings:
            rows.append(replace(rows[-1], metric=CEILING, cells=ceilings))
    shots = sorted({k for row in rows for k in row.cells})
    return Table(tuple(rows), tuple(shots))


def _ceiling(runs: Sequence[Recorded]) -> Cell | None:
    """How many queries had their answer among the shots at all (fast binding), for the row below the score's."""
    heads = [r.scores["scores"][0] for r in runs]
    values = [h["breakdown"][CEILING] for h in heads if CEILING in h["breakdown"]]
    if not values:
        return None
    return Cell(fmean(values), None, _seeds(runs), None, heads[0]["n"], 0)


def _cell(runs: Sequence[Recorded]) -> Cell:
    """Mean over seeds, its interval over queries, and apart from it the standard deviation over seeds."""
    heads = [r.scores["scores"][0] for r in runs]
    values = [h["value"] for h in heads]
    undefined = any(v is None for v in values)
    found = None if undefined else over_seeds(values, [h.get("draws") or () for h in heads] if _aligned(runs) else [])
    one = heads[0].get("ci95") if len(heads) == 1 and not undefined else None
    notes = dict.fromkeys(f"{k}: {v}" for h in heads for k, v in h.get("notes", {}).items())
    return Cell(
        value=found.value if found else None,
        ci95=tuple(one) if one else found.ci95 if found else None,
        seeds=_seeds(runs),
        spread=found.spread if found else None,
        n=min(h["n"] for h in heads),
        n_failed=sum(h["n_failed"] for h in heads),
        why_undefined=next((h["why_undefined"] for h in heads if h["value"] is None), ""),
        notes=tuple(notes),
    )


def _seeds(runs: Sequence[Recorded]) -> tuple[int, ...]:
    return tuple(int(r.scores["seed"]) for r in runs)


def _aligned(runs: Sequence[Recorded]) -> bool:
    """Whether the seeds' draws resample the same pictures: they were scored over the same queries."""
    if not any(r.scores["scores"][0]["n_failed"] for r in runs):
        return True
    failed = [{o.id for o in read_outputs(r.folder.outputs)[0] if o.error} for r in runs]
    return all(ids == failed[0] for ids in failed)


# ------------------------------------------------------------------------------------------------------- renderings


def cell_text(cell: Cell | None, plus_minus: str = "±") -> str:
    """`63.1 ±2.4`: the mean and half the width of its 95 % interval; `undefined` where there is no number."""
    if cell is None:
        return "-"
    if cell.value is None:
        return "undefined"
    text = f"{cell.value:.1f}"
    if cell.ci95 is not None:
        text += f" {plus_minus}{(cell.ci95[1] - cell.ci95[0]) / 2:.1f}"
    return f"{text} !{cell.n_failed}" if cell.n_failed else text


NUMBERS_FROM = 5  # columns from here on hold numbers


def header(table: Table) -> list[str]:
    """Column titles."""
    return ["task", "split", "metric", "model", "protocol", "n", *(f"{k} shots" for k in table.shots)]


def lines(table: Table, plus_minus: str = "±") -> list[list[str]]:
    """The table's cells as text, without its header."""
    return [
        [
            row.label,
            row.split,
            METRIC_TITLES.get(row.metric, row.metric),
            row.model_label,
            row.protocol,
            str(max((c.n for c in row.cells.values() if c.n is not None), default="-")),
            *(cell_text(row.cells.get(k), plus_minus) for k in table.shots),
        ]
        for row in table.rows
    ]


def notes_of(table: Table) -> list[str]:
    """What stands below a table: seeds and intervals, zero shots, sample data, failures, undefined cells."""
    cells = [c for row in table.rows for c in row.cells.values() if not row.published]
    seeds = sorted({s for c in cells for s in c.seeds})
    notes = [f"± is half a 95 % bootstrap interval over pictures; seeds {', '.join(map(str, seeds))}"]
    if any(row.task.endswith("@sample") for row in table.rows):
        notes.append(
            "@sample: drawn by flamingo-eval itself to try things out; never to be put beside published scores"
        )
    if 0 in table.shots:
        notes.append("0 shots: two demonstrations without pictures for open-ended tasks, as the paper does")
    for row in table.rows:
        undefined: dict[str, list[str]] = {}
        for shots, cell in row.cells.items():
            if cell.n_failed:
                queries = "1 query" if cell.n_failed == 1 else f"{cell.n_failed} queries"
                notes.append(f"!{cell.n_failed}: {row.label}, {shots} shots: {queries} failed, not scored")
            if cell.value is None:
                undefined.setdefault(cell.why_undefined, []).append(str(shots))
        notes += [f"{row.label}, {', '.join(at)} shots: undefined: {why}" for why, at in undefined.items()]
    return [*notes, *table.footnotes]


def markdown(table: Table) -> str:
    """GitHub Markdown."""
    rows = [header(table), ["---"] * NUMBERS_FROM + ["--:"] * (1 + len(table.shots)), *lines(table)]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows) + "\n"


CSV_COLUMNS = (
    "task", "split", "metric", "model", "protocol", "demos", "ablation", "shots",
    "value", "low", "high", "seeds", "spread", "n", "failed", "why", "published", "differences",
)  # fmt: skip


def csv_text(table: Table) -> str:
    """One line a number, with all that tells it from the others."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for row in table.rows:
        for shots, c in row.cells.items():
            low, high = c.ci95 or (None, None)
            writer.writerow(
                [
                    *(row.task, row.split, row.metric, row.model, row.protocol, row.demos, row.ablation, shots),
                    *(c.value, low, high, " ".join(map(str, c.seeds)), c.spread, c.n, c.n_failed, c.why_undefined),
                    *(row.published, "; ".join(row.differences)),
                ]
            )
    return out.getvalue()


_LATEX = str.maketrans(
    {c: f"\\{c}" for c in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
)


def latex(table: Table) -> str:
    """A booktabs tabular."""
    columns = "lllllr" + "r" * len(table.shots)
    rows = [[cell.translate(_LATEX) for cell in row] for row in [header(table), *lines(table, "@@")]]
    body = [" & ".join(row).replace("@@", r"$\pm$") + r" \\" for row in rows]
    top = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", body[0], r"\midrule"]
    return "\n".join([*top, *body[1:], r"\bottomrule", r"\end{tabular}"]) + "\n"


def json_value(table: Table) -> dict[str, Any]:
    """The table as JSON."""
    rows = []
    for row in table.rows:
        value = dataclasses.asdict(row)
        value["cells"] = {str(k): dataclasses.asdict(c) for k, c in row.cells.items()}
        rows.append(value)
    return {"shots": list(table.shots), "rows": rows, "notes": notes_of(table)}
