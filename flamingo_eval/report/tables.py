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
from flamingo_eval.metrics.bootstrap import over_seeds
from flamingo_eval.report.rows import Recorded, RowKey, rows_of
from flamingo_eval.runs.folder import BELOW, CEILING, RunFolder, read_outputs

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
    """The content of a row below the score's: the share of queries whose answer is among their shots, a baseline."""
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
