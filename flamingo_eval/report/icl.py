"""The in-context card of finished runs: gain, copying and a verdict for every row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from flamingo_eval.metrics.bootstrap import OverSeeds, over_seeds
from flamingo_eval.report.copying import CopyingAt, Estimate, copying_at
from flamingo_eval.report.curve import Curve, curve_of
from flamingo_eval.report.formats import markdown_table
from flamingo_eval.report.rows import Recorded, RowKey, rows_of
from flamingo_eval.report.tables import METRIC_TITLES
from flamingo_eval.report.verdict import Verdict, verdict
from flamingo_eval.runs.folder import RunFolder
from flamingo_eval.runs.recorded import recorded_data
from flamingo_eval.runs.task_data import TaskData


@dataclass(frozen=True, slots=True)
class CardRow:
    """One row of the results table: its curve over shots, and copying at each number of shots."""

    task: str
    split: str
    metric: str
    model: str
    protocol: str
    demos: str  # the method that chose the shots
    ablation: str
    variant: str  # distinguishes it from rows of the same name
    curve: Curve | None  # None: no score at any number of shots
    copying: tuple[CopyingAt, ...]  # by number of shots
    verdict: Verdict

    @property
    def name(self) -> str:
        """The row in a table: `vqav2 (rices), val`."""
        words = ", ".join(filter(None, (self.demos if self.demos != "random" else "", self.ablation, self.variant)))
        return f"{self.task} ({words}), {self.split}" if words else f"{self.task}, {self.split}"


class DataAtHand:
    """The data of finished runs, for runs that do not record copying; the last task's data is cached."""

    def __init__(self, data: str | None = None) -> None:
        """`data`: folder of the official files; runs on the sample need none."""
        self.data = data
        self._newest: tuple[object, TaskData] | None = None

    def __call__(self, record: Recorded) -> TaskData:
        """The data of a run. Raises FlamingoEvalError if it is missing or differs from the run's."""
        key = (record.run.task, record.run.spec.split, repr(record.run.spec.task), tuple(record.run.files.items()))
        if self._newest is None or self._newest[0] != key:
            self._newest = key, recorded_data(record.run, self.data)
        return self._newest[1]


def card_rows(folders: Sequence[RunFolder], data: str | None = None) -> list[CardRow]:
    """The card of every row; seeds are averaged. `data` is for runs that do not record copying."""
    data_of = DataAtHand(data)
    return [_row(key, records, data_of) for key, records in rows_of(folders).items()]


def _row(key: RowKey, records: Sequence[Recorded], data_of: DataAtHand) -> CardRow:
    task, split, metric, model, protocol, demos, ablation, variant = key
    by_shots: dict[int, list[Recorded]] = {}
    for record in records:
        by_shots.setdefault(record.scores.shots, []).append(record)
    curve = curve_of(_scores(by_shots))
    copying = tuple(copying_at(by_shots[shots], data_of) for shots in sorted(by_shots))
    judged = verdict(metric, curve, copying)
    return CardRow(task, split, metric, model, protocol, demos, ablation, variant, curve, copying, judged)


def _scores(by_shots: dict[int, list[Recorded]]) -> dict[int, OverSeeds]:
    scores: dict[int, OverSeeds] = {}
    for shots, runs in by_shots.items():
        values = [r.scores.headline.value for r in runs]
        defined = [v for v in values if v is not None]
        if len(defined) == len(values) and not any(r.scores.headline.n_failed for r in runs):
            scores[shots] = over_seeds(defined, [r.draws(r.scores.headline.metric) for r in runs])
    return scores


# -------------------------------------------------------------------------------------------------------------- tables

VERDICT_TITLES = ("task", "metric", "model", "what the curve shows")
CURVE_TITLES = ("task", "0 shots", "peak", "at", "efficiency", "change", "shots", "p")
COPYING_TITLES = (
    "task", "shots", "score", "copied", "right", "most frequent", "last", "say most frequent", "say last", "covered",
    "uncovered", "copied there",
)  # fmt: skip
NOTES = (
    "efficiency: mean gain over zero shots, in points (area over the zero-shot score, divided by the most shots)",
    "change: from the fewest shots to the most, with its 95 % interval; p: paired over pictures, two-sided",
    "copied: % of answers that are one of the shots' answers, right: the score of these; most frequent, last: % of "
    "answers that are the shots' most frequent or last one, say ...: the score of giving that answer to every query",
    "covered: % of queries of which a shot shows a right answer; uncovered: the score of the others, copied there: "
    "% of their answers that are one of the shots'",
)


def names_of(rows: Sequence[CardRow]) -> list[str]:
    """The name of a row in the second and third table, with its model if there are several."""
    several = len({(row.model, row.protocol) for row in rows}) > 1
    return [f"{row.name}, {row.model}, {row.protocol}" if several else row.name for row in rows]


@dataclass(frozen=True, slots=True)
class CardTable:
    """One of the card's tables; columns from `numbers_from` on hold numbers."""

    titles: tuple[str, ...]
    lines: tuple[list[str], ...]
    numbers_from: int | None = None


def tables_of(rows: Sequence[CardRow]) -> list[CardTable]:
    """The tables of a card that have a line: verdicts, curves, copying."""
    names = names_of(rows)
    named = list(zip(names, rows, strict=True))
    curves = [curve_line(name, row.curve) for name, row in named if row.curve and row.curve.most > row.curve.fewest]
    copying = [copying_line(name, at) for name, row in named for at in row.copying if not at.why]
    tables = [
        CardTable(VERDICT_TITLES, tuple(map(verdict_line, rows))),
        CardTable(CURVE_TITLES, tuple(curves), 1),
        CardTable(COPYING_TITLES, tuple(copying), 1),
    ]
    return [table for table in tables if table.lines]


def markdown_card(rows: Sequence[CardRow]) -> str:
    """The card in GitHub Markdown, with its notes."""
    parts = [
        markdown_table(t.titles, t.lines, len(t.titles) if t.numbers_from is None else t.numbers_from)
        for t in tables_of(rows)
    ]
    notes = "".join(f"- {note}\n" for note in (*NOTES, *whys(rows)))
    return "\n".join([*parts, notes])


def verdict_line(row: CardRow) -> list[str]:
    """The cells of VERDICT_TITLES."""
    return [row.name, METRIC_TITLES.get(row.metric, row.metric), f"{row.model}, {row.protocol}", row.verdict.text]


def curve_line(name: str, curve: Curve) -> list[str]:
    """The cells of CURVE_TITLES."""
    change, p = "-", "-"
    if curve.change is not None:
        low, high = curve.change.ci95
        change = f"{curve.change.difference:+.1f} ({low:+.1f} to {high:+.1f})"
        p = "< 0.001" if curve.change.p_value < 0.001 else f"{curve.change.p_value:.3f}"
    return [
        name,
        in_words(curve.zero),
        in_words(curve.peak),
        str(curve.peak_shots),
        in_words(curve.efficiency, signed=True),
        change,
        f"{curve.fewest} to {curve.most}",
        p,
    ]


def copying_line(name: str, at: CopyingAt) -> list[str]:
    """The cells of COPYING_TITLES."""
    return [name, str(at.shots), *map(in_words, copying_figures(at))]


def copying_figures(at: CopyingAt) -> tuple[Estimate, ...]:
    """The numbers of COPYING_TITLES, from the score on."""
    return (
        at.score, at.copied, at.copied_right, at.majority, at.last, at.always_majority, at.always_last, at.covered,
        at.uncovered, at.uncovered_copied,
    )  # fmt: skip


def whys(rows: Sequence[CardRow]) -> list[str]:
    """Why numbers are missing, one line per reason."""
    reasons: dict[str, dict[str, None]] = {}
    for row in rows:
        for at in row.copying:
            if at.why:
                reasons.setdefault(at.why, {})[f"{row.task} at {at.shots} shots"] = None
    return [f"no figures of copying for {', '.join(places)}: {why}" for why, places in reasons.items()]


def in_words(estimate: Estimate, signed: bool = False) -> str:
    """`48.3 ±5.0`: the value and half its interval; `-` if undefined."""
    if estimate.value is None:
        return "-"
    value = f"{estimate.value:+.1f}" if signed else f"{estimate.value:.1f}"
    return value if estimate.ci95 is None else f"{value} ±{(estimate.ci95[1] - estimate.ci95[0]) / 2:.1f}"
