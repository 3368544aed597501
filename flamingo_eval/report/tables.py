"""Run records -> a table of plain data (rendered by text_table.py and formats.py). Never imports a model.

Tasks are rows and shots are columns. A cell is the mean over seeds with a 95 % interval over queries (pictures) and,
separately, the spread over seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from flamingo_eval.errors import UsageError, did_you_mean
from flamingo_eval.metrics import METRICS
from flamingo_eval.metrics.baselines import MAJORITY, RANDOM
from flamingo_eval.metrics.bootstrap import over_seeds
from flamingo_eval.metrics.scoring import LETTERS, REFERENCES
from flamingo_eval.metrics.vl_icl import CEILING_NOTE
from flamingo_eval.prompting.support import FEWER_NOTE
from flamingo_eval.report.rows import Recorded, RowKey, rows_of
from flamingo_eval.runs.folder import BELOW, CEILING, RunFolder, read_outputs
from flamingo_eval.runs.predictions import PARTIAL_NOTE

CEILING_TITLE = "ceiling: answer among the shots"
ALL_METRICS = "all"
METRIC_TITLES = {**{name: name for name in BELOW}, CEILING: CEILING_TITLE} | {
    name: row.title for name, row in METRICS.items()
}


@dataclass(frozen=True, slots=True)
class Cell:
    """One number of the table: mean over seeds, interval over queries, spread over seeds, counts."""

    value: float | None
    ci95: tuple[float, float] | None
    seeds: tuple[int, ...]
    spread: float | None  # standard deviation over seeds; None for a single one
    n: int | None  # queries; None if a source does not state it
    n_failed: int
    why_undefined: str = ""
    notes: tuple[str, ...] = ()
    passed_over: tuple[str, ...] = ()  # skipped support examples: `20 (digest ...)`, one word per seed
    text_only_shots: int | None = None  # demonstrations without pictures at zero shots; None: more shots, or unknown


@dataclass(frozen=True, slots=True)
class Row:
    """One task with one model, protocol and method of choosing shots."""

    task: str
    split: str
    metric: str
    model: str
    protocol: str
    demos: str
    ablation: str
    cells: dict[int, Cell]  # by shots
    published: str = ""  # source of the numbers; empty: ours
    differences: tuple[str, ...] = ()  # published: differences from our protocol
    footnote: int = 0  # published: number of its note below the table
    variant: str = ""  # distinguishes it from rows of the same name (rows.py): `limit 100`

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
        """The task, followed by differences from a plain run."""
        extra = [x for x in (self.demos if self.demos != "random" else "", self.ablation, self.variant) if x]
        return f"{self.task} ({', '.join(extra)})" if extra else self.task


@dataclass(frozen=True, slots=True)
class Table:
    """Rows in the order of task, model, protocol; and all numbers of shots in them."""

    rows: tuple[Row, ...]
    shots: tuple[int, ...]
    footnotes: tuple[str, ...] = ()  # sources and differences of published rows, and rows that were left out


def table_of(folders: Sequence[RunFolder], metrics: Sequence[str] = ()) -> Table:
    """The table of complete runs; runs that differ only in the seed share a cell.

    `metrics` are the metrics to show of each task, `all` for every one; the headline if empty. Raises UsageError for a
    metric that none of the runs has.
    """
    rows: list[Row] = []
    groups = rows_of(folders)
    _check_metrics(metrics, [record for records in groups.values() for record in records])
    for key, records in groups.items():
        by_shots: dict[int, list[Recorded]] = {}
        for record in sorted(records, key=lambda r: (r.scores.shots, r.scores.seed)):
            by_shots.setdefault(record.scores.shots, []).append(record)
        task, split, headline, model, protocol, demos, ablation, variant = key
        for metric in _chosen(metrics, headline, records):
            cells = {k: cell for k, runs in by_shots.items() if (cell := _cell(runs, metric)) is not None}
            rows.append(Row(task, split, metric, model, protocol, demos, ablation, cells, variant=variant))
        for name in BELOW:
            below = {k: cell for k, runs in by_shots.items() if (cell := _below(runs, name)) is not None}
            if below:
                rows.append(Row(task, split, name, model, protocol, demos, ablation, below, variant=variant))
    shots = sorted({k for row in rows for k in row.cells})
    return Table(tuple(rows), tuple(shots))


def _check_metrics(metrics: Sequence[str], records: Sequence[Recorded]) -> None:
    recorded_metrics = list(dict.fromkeys(s.metric for r in records for s in r.scores.scores))
    for name in metrics:
        if name not in (ALL_METRICS, *recorded_metrics):
            hint = did_you_mean(name, recorded_metrics)
            message = f"invalid value for --metric: '{name}'. {hint}".rstrip()
            raise UsageError(message, fix=f"These runs have: {', '.join(recorded_metrics)}; or give 'all'.")


def _chosen(metrics: Sequence[str], headline: str, records: Sequence[Recorded]) -> list[str]:
    if not metrics:
        return [headline]
    names = dict.fromkeys(s.metric for r in records for s in r.scores.scores)
    return [name for name in names if name in metrics or ALL_METRICS in metrics]


def _below(runs: Sequence[Recorded], name: str) -> Cell | None:
    """What stands in a row below the score's: the share of queries whose answer is among their shots, a baseline."""
    headlines = [r.scores.headline for r in runs]
    values = [v for h in headlines if (v := h.breakdown.get(name)) is not None]
    if not values:
        return None
    return Cell(fmean(values), None, _seeds(runs), None, headlines[0].n, 0)


def _cell(runs: Sequence[Recorded], metric: str) -> Cell | None:
    """Mean over seeds, its interval over queries, and the standard deviation over seeds."""
    scores = [s for r in runs for s in r.scores.scores if s.metric == metric]
    if len(scores) != len(runs):
        return None
    values = [s.value for s in scores if s.value is not None]
    undefined = len(values) < len(scores)
    draws = [r.draws(metric) for r in runs] if len(runs) > 1 and not undefined and _aligned(runs) else []
    mean = None if undefined else over_seeds(values, draws)
    own_interval = scores[0].ci95 if len(scores) == 1 and mean else None
    interval = own_interval if mean and own_interval and own_interval[0] <= mean.value <= own_interval[1] else None
    notes = dict.fromkeys(f"{k}: {v}" for s in scores for k, v in s.notes.items())
    return Cell(
        value=mean.value if mean else None,
        ci95=mean.ci95 or interval if mean else None,
        seeds=_seeds(runs),
        spread=mean.spread if mean else None,
        n=min(s.n for s in scores),
        n_failed=sum(s.n_failed for s in scores),
        why_undefined=next((s.why_undefined for s in scores if s.value is None), ""),
        notes=tuple(notes),
        passed_over=_passed_over(runs),
        text_only_shots=_text_only_shots(runs),
    )


def _passed_over(runs: Sequence[Recorded]) -> tuple[str, ...]:
    records = [r.run.passed_over for r in runs]
    return tuple(dict.fromkeys(f"{p.count} (digest {p.digest})" for p in records if p is not None))


def _text_only_shots(runs: Sequence[Recorded]) -> int | None:
    """Demonstrations without pictures at zero shots, from the records."""
    numbers = {r.scores.text_only_shots for r in runs if r.scores.shots == 0}
    return numbers.pop() if len(numbers) == 1 else None


def _seeds(runs: Sequence[Recorded]) -> tuple[int, ...]:
    return tuple(r.scores.seed for r in runs)


def _aligned(runs: Sequence[Recorded]) -> bool:
    """Whether the seeds' draws resample the same pictures: they were scored over the same queries."""
    if not any(r.scores.headline.n_failed for r in runs):
        return True
    failed_ids = [{o.id for o in read_outputs(r.folder.outputs)[0] if o.error} for r in runs]
    return all(ids == failed_ids[0] for ids in failed_ids)


# ------------------------------------------------------------------------------------------------------- renderings


def cell_text(cell: Cell | None, plus_minus: str = "±") -> str:
    """`63.1 ±2.4`: the mean and half the width of its 95 % interval; `undefined` if there is no number."""
    if cell is None:
        return "-"
    if cell.value is None:
        return "undefined"
    text = f"{cell.value:.1f}"
    if cell.ci95 is not None:
        text += f" {plus_minus}{(cell.ci95[1] - cell.ci95[0]) / 2:.1f}"
    return f"{text} !{cell.n_failed}" if cell.n_failed else text


NUMBERS_FROM = 5  # columns from here on hold numbers: the count of queries, then a score for each number of shots


def header(table: Table) -> list[str]:
    """Column titles."""
    return ["task", "split", "metric", "model", "protocol", "n", *(f"{k} shots" for k in table.shots)]


def name_columns(table: Table) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """The columns with one value in all rows, as words for a line above, and the other columns before the numbers.

    A ceiling repeats its score's names and does not count. The task is always a column.
    """
    titles = header(table)
    rows = [cells for cells, row in zip(lines(table), table.rows, strict=True) if row.metric not in BELOW]
    constants: list[str] = []
    columns = [0]
    for column in range(1, NUMBERS_FROM + 1):
        values = {cells[column] for cells in rows}
        if len(values) == 1:
            value = values.pop()
            constants.append(value if titles[column] in ("metric", "model") else f"{titles[column]} {value}")
        else:
            columns.append(column)
    return tuple(constants), tuple(columns)


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


def _zero_shot_notes(table: Table) -> list[str]:
    """Notes about the prompts at zero shots, from the records."""
    tasks: dict[int, dict[str, None]] = {}
    for row in table.rows:
        cell = row.cells.get(0)
        if cell is not None and cell.text_only_shots is not None and not row.published:
            tasks.setdefault(cell.text_only_shots, {})[row.task] = None
    notes = []
    for number, names in sorted(tasks.items(), reverse=True):
        names_text = f" ({', '.join(names)})" if len(tasks) > 1 else ""
        demonstrations = "no demonstrations" if not number else f"{number} demonstrations without pictures"
        notes.append(f"0 shots{names_text}: {demonstrations}")
    return notes


def notes_of(table: Table) -> list[str]:
    """Notes below a table: seeds and intervals, zero shots, sample data, failures, undefined cells."""
    cells = [c for row in table.rows for c in row.cells.values() if not row.published]
    seeds = sorted({s for c in cells for s in c.seeds})
    notes = [f"± is half a 95 % bootstrap interval over pictures; seeds {', '.join(map(str, seeds))}"]
    if any("@sample" in row.task for row in table.rows):
        notes.append(
            "@sample: made by flamingo-eval itself for trying things out; never compare it with published scores"
        )
    notes += _zero_shot_notes(table)
    if any(row.metric in (MAJORITY, RANDOM) for row in table.rows):
        notes.append(f"{MAJORITY}, {RANDOM}: the score of always repeating such an answer, by the same metric")
    if any(row.metric == CEILING for row in table.rows):
        notes.append("ceiling: share of queries whose answer is among their shots; only guessing can exceed it")
    for row in table.rows:
        undefined: dict[str, list[str]] = {}
        for shots, cell in row.cells.items():
            if cell.n_failed:
                queries = "1 query" if cell.n_failed == 1 else f"{cell.n_failed} queries"
                notes.append(f"!{cell.n_failed}: {row.label}, {shots} shots: {queries} failed, not scored")
            if cell.passed_over and not row.published:
                counts = ", ".join(cell.passed_over)
                notes.append(f"{row.label}, {shots} shots: support examples skipped: {counts}")
            letters = dict.fromkeys(n for n in cell.notes if n.startswith(f"{LETTERS}: "))
            notes += [f"{row.label}, {shots} shots, {note}" for note in letters]
            if cell.value is None:
                undefined.setdefault(cell.why_undefined, []).append(str(shots))
        notes += [
            f"{row.label}, {', '.join(shot_counts)} shots: undefined: {reason}"
            for reason, shot_counts in undefined.items()
        ]
        reference_notes = dict.fromkeys(
            n for c in row.cells.values() for n in c.notes if n.startswith(f"{REFERENCES}: ")
        )
        notes += [f"{row.label}: {note}" for note in reference_notes]
        partial_notes = dict.fromkeys(
            n for c in row.cells.values() for n in c.notes if n.startswith(f"{PARTIAL_NOTE}: ")
        )
        notes += [f"{row.label}, {row.model}: {note.removeprefix(f'{PARTIAL_NOTE}: ')}" for note in partial_notes]
        notes += [
            f"{row.label}, {shots} shots: {note.removeprefix(f'{FEWER_NOTE}: ')}"
            for shots, cell in row.cells.items()
            for note in cell.notes
            if note.startswith(f"{FEWER_NOTE}: ")
        ]
        ceilings = dict.fromkeys(n for c in row.cells.values() for n in c.notes if n.startswith(f"{CEILING_NOTE}: "))
        notes += [f"{row.label}: {note}" for note in ceilings if not note.startswith(f"{CEILING_NOTE}: 100.00")]
    return [*notes, *table.footnotes]
