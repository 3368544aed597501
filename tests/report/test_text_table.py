"""The table in a terminal: at every width each number stands there, whole, with what it is of."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from rich.cells import cell_len

from flamingo_eval.report.cells import cell_text
from flamingo_eval.report.tables import Cell, Row, Table
from flamingo_eval.report.text_table import text_table
from flamingo_eval.runs.folder import CEILING

SHOTS = (0, 4, 8, 16, 32)


def cells(first: float) -> dict[int, Cell]:
    return {k: Cell(first + k + 0.5, (first, first + 2 * k + 1.0), (0, 1, 2), 1.0, 400, 0) for k in SHOTS}


ROWS = (
    Row("vqav2@sample", "val", "vqa_accuracy", "tiny", "flamingo", "random", "", cells(36)),
    Row("coco@sample", "test", "cider", "tiny", "flamingo", "random", "", cells(540)),
    Row("fastbind@sample", "unseen-5", "top1", "tiny", "flamingo", "balanced", "labels-shuffled", cells(57)),
    Row("fastbind@sample", "unseen-5", CEILING, "tiny", "flamingo", "balanced", "labels-shuffled", cells(60)),
)
TABLE = Table(ROWS, SHOTS)
LONG = replace(ROWS[1], model="an-organisation/a-model-with-a-very-long-name-7b-instruct", protocol="chat")
WIDE = replace(ROWS[1], task="評価@sample", model="模型")


@pytest.mark.parametrize("width", [60, 80, 100, 120, 200, None])
@pytest.mark.parametrize("table", [TABLE, Table((*ROWS, LONG), SHOTS), Table((*ROWS, WIDE), SHOTS)])
def test_every_number_is_there_and_nothing_is_wider_than_the_screen(table: Table, width: int | None) -> None:
    text = text_table(table, width)
    for row in table.rows:
        for cell in row.cells.values():
            assert cell_text(cell) in text.replace("\u00a0", " ")
    assert all(cell_len(line) <= (width or 10**6) for line in text.splitlines())
    words = re.sub(r"\s+", "", text)
    for row in table.rows:
        for name in (row.split, row.model, row.protocol):
            assert name in words, "a name is folded, never cut"


@pytest.mark.parametrize("width", [80, 100, 120])
def test_a_number_stands_below_its_shots(width: int) -> None:
    lines = text_table(TABLE, width).splitlines()
    titles = [i for i, line in enumerate(lines) if line.startswith("task")]
    for at, stop in zip(titles, [*titles[1:], len(lines)], strict=True):
        ends = {m.end(): int(m.group(1)) for m in re.finditer(r"(\d+) shots", lines[at])}
        for line in lines[at + 2 : stop]:
            for match in re.finditer(r"[\d.]+ ±[\d.]+", line):
                shots = ends[match.end()]
                assert match.group() in {cell_text(row.cells[shots]) for row in ROWS}


def test_columns_with_one_value_stand_above_the_table() -> None:
    first, blank, titles, *_ = text_table(TABLE, 120).splitlines()
    assert first == "tiny, protocol flamingo, n 400"
    assert blank == ""
    assert titles.split()[:3] == ["task", "split", "metric"]


def test_a_ceiling_is_named_as_one_at_any_width() -> None:
    for width in (60, 80, 200, None):
        lines = text_table(TABLE, width).splitlines()
        ceilings = [line for line in lines if line.lstrip().startswith("ceiling")]
        assert ceilings
        assert all(line.startswith("  ceiling") for line in ceilings)


def test_a_pipe_gets_one_line_a_row() -> None:
    body = text_table(TABLE).splitlines()[4:]
    assert len(body) == len(ROWS)
    assert all(line.count("±") == len(SHOTS) for line in body)


def test_an_empty_table_is_no_error() -> None:
    assert text_table(Table((), ()), 80)
