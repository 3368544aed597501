"""The words of a Table: its cells, its head, its lines, and the notes below them."""

from __future__ import annotations

from flamingo_eval.metrics.baselines import MAJORITY, RANDOM
from flamingo_eval.metrics.scoring import LETTERS, REFERENCES
from flamingo_eval.metrics.vl_icl import CEILING_NOTE
from flamingo_eval.prompting.support import FEWER_NOTE
from flamingo_eval.report.tables import METRIC_TITLES, Cell, Table
from flamingo_eval.report.verdict import NOTHING_TO_SEE, nothing_to_see
from flamingo_eval.runs.folder import BELOW, CEILING
from flamingo_eval.runs.predictions import PARTIAL_NOTE


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


def _flat_notes(table: Table) -> list[str]:
    """Which of our curves cannot show learning in context, by the reason."""
    tasks: dict[str, dict[str, None]] = {}
    for row in table.rows:
        values = {shots: cell.value for shots, cell in row.cells.items() if cell.value is not None}
        if len(values) > 1 and not row.published and row.metric not in BELOW:
            tasks.setdefault(nothing_to_see(row.metric, values), {})[row.label] = None
    return [f"{NOTHING_TO_SEE}, {reason}: {', '.join(labels)}" for reason, labels in tasks.items() if reason]


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
    notes += _flat_notes(table)
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
