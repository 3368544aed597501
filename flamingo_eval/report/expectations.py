"""Expected scores of a run: `run --expect 'vqav2 4 >= 60'`, for the CI of a model repository."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from flamingo_eval.errors import Problem, UsageError, counted
from flamingo_eval.report.tables import Cell, Row, Table
from flamingo_eval.runs.folder import BELOW

FORM = "TASK[:SPLIT] [METRIC] SHOTS OPERATOR VALUE, for example 'vqav2 4 >= 60' or 'coco meteor 0 > 25'"
OPERATORS: Mapping[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}
_PATTERN = re.compile(
    r"\s*(?P<task>[^\s:]+)(?::(?P<split>\S+))?(?:\s+(?P<metric>[A-Za-z]\w*))?\s+(?P<shots>\d+)"
    r"\s*(?P<operator>[<>]=?)\s*(?P<value>-?\d+(?:\.\d+)?)\s*"
)


@dataclass(frozen=True, slots=True)
class Expectation:
    """One bound on one score: the mean over seeds of a task's metric at a number of shots."""

    text: str
    task: str  # with or without @sample
    split: str  # empty: the one split that was run
    metric: str  # empty: the headline
    shots: int
    operator: str
    value: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """An expectation and the measured score; `value` is None if undefined."""

    expectation: Expectation
    value: float | None
    met: bool

    def __str__(self) -> str:
        got = "undefined" if self.value is None else f"{self.value:.2f}"
        return f"{'met' if self.met else 'NOT MET'}: expected {self.expectation.text}, got {got}"


def parse_expectations(
    texts: Sequence[str], runs: Sequence[tuple[str, str, int]] | None = None
) -> tuple[Expectation, ...]:
    """The expectations of a command line, checked against its runs: (task label, split, shots) of each.

    Without `runs` their form alone is checked.

    Raises UsageError with every invalid text, and every one that matches no run.
    """
    problems: list[Problem] = []
    expectations: list[Expectation] = []
    for text in texts:
        match = _PATTERN.fullmatch(text)
        if match is None:
            problems.append(Problem(f"--expect '{text}': expected {FORM}."))
            continue
        expectation = Expectation(
            " ".join(text.split()),
            match["task"],
            match["split"] or "",
            match["metric"] or "",
            int(match["shots"]),
            match["operator"],
            float(match["value"]),
        )
        if runs is not None and not any(_is_of(expectation, *run) for run in runs):
            known = ", ".join(dict.fromkeys(f"{task}:{split} {shots}" for task, split, shots in runs))
            problems.append(Problem(f"--expect '{text}': this command has no such run.", fix=f"Its runs: {known}."))
        expectations.append(expectation)
    if problems:
        raise UsageError(f"{counted(len(problems), 'problem')} in --expect", problems)
    return tuple(expectations)


def check_expectations(expectations: Sequence[Expectation], table: Table) -> list[Outcome]:
    """Check each expectation with a table of all metrics of the runs.

    Raises UsageError if an expectation matches no score, or scores of several splits or rows.
    """
    return [_outcome(expectation, table) for expectation in expectations]


def _outcome(expectation: Expectation, table: Table) -> Outcome:
    cells = _cells(expectation, table)
    if not cells:
        metrics = ", ".join(dict.fromkeys(r.metric for r in table.rows if _names_task(expectation, r.task)))
        raise UsageError(f"--expect '{expectation.text}': unknown score.", fix=f"Metrics of the task: {metrics}.")
    if len(cells) > 1:
        splits = ", ".join(f"{row.label}:{row.split}" for row, _ in cells)
        raise UsageError(f"--expect '{expectation.text}': several scores match ({splits}).", fix="Add the split.")
    ((_, cell),) = cells
    met = cell.value is not None and OPERATORS[expectation.operator](cell.value, expectation.value)
    return Outcome(expectation, cell.value, met)


def _cells(expectation: Expectation, table: Table) -> list[tuple[Row, Cell]]:
    cells: list[tuple[Row, Cell]] = []
    headlines: set[tuple[str, ...]] = set()
    for row in table.rows:
        if row.metric in BELOW or not _is_of(expectation, row.task, row.split, expectation.shots):
            continue
        name = (row.task, row.split, row.model, row.protocol, row.demos, row.ablation, row.variant)
        is_match = row.metric == expectation.metric if expectation.metric else name not in headlines
        headlines.add(name)
        if is_match and expectation.shots in row.cells:
            cells.append((row, row.cells[expectation.shots]))
    return cells


def _is_of(expectation: Expectation, task: str, split: str, shots: int) -> bool:
    return _names_task(expectation, task) and expectation.split in ("", split) and expectation.shots == shots


def _names_task(expectation: Expectation, label: str) -> bool:
    return expectation.task in (label, label.partition("@")[0])
