"""tables.py: the same numbers in every format, and doubts kept apart."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from statistics import fmean, stdev

import pytest

from flamingo_eval.records import Prompt
from flamingo_eval.report.cells import cell_text, lines, notes_of
from flamingo_eval.report.formats import csv_text, json_value, latex, markdown
from flamingo_eval.report.tables import Cell, Row, Table, table_of
from flamingo_eval.runs.folder import find_runs
from tests.support.fixture_types import MakeRun


def red_for(*ids: str) -> Callable[[Prompt], str]:
    return lambda prompt: "red" if prompt.id in ids else "nothing"


def test_shots_are_columns_and_seeds_share_a_cell(make_run: MakeRun, tmp_path: Path) -> None:
    make_run("red", shots=0)
    scores = [1 / 12, 0.0, 0.0]
    for seed, ids in enumerate((("100",), (), ("101",))):  # query 100 is the red one
        make_run(red_for(*ids), shots=4, seed=seed)
    table = table_of(find_runs([tmp_path / "results"]))
    (row,) = table.rows
    assert table.shots == (0, 4)
    cell = row.cells[4]
    assert cell.seeds == (0, 1, 2)
    assert cell.value == pytest.approx(100 * fmean(scores))
    assert cell.spread == pytest.approx(100 * stdev(scores))
    assert cell.ci95 is not None
    assert cell.ci95[0] <= (cell.value or 0) <= cell.ci95[1]
    assert row.cells[0].spread is None


def test_runs_that_differ_in_more_than_the_seed_have_rows_of_their_own(make_run: MakeRun, tmp_path: Path) -> None:
    make_run("red", shots=4)
    make_run("red", shots=4, model="other")
    make_run("red", shots=4, ablation="labels-shuffled")
    make_run("red", shots=4, protocol="openflamingo")
    labels = [line[0] for line in lines(table_of(find_runs([tmp_path / "results"])))]
    assert sorted(labels) == ["vqav2", "vqav2", "vqav2", "vqav2 (labels-shuffled)"]


CELL = Cell(63.149, (61.0, 65.0), (0,), None, 200, 0)
TABLE = Table(
    (
        Row("vqav2@sample", "val", "vqa_accuracy", "tiny_1", "flamingo", "random", "", {0: CELL}),
        Row("coco", "test", "cider", "a|b", "flamingo", "rices", "",
            {0: Cell(None, None, (0,), None, 1, 0, "one picture"), 4: Cell(80.0, None, (0, 1), 2.0, 9, 3)}),
    ),
    (0, 4),
)  # fmt: skip


def test_markdown() -> None:
    assert markdown(TABLE).splitlines()[2:] == [
        "| vqav2@sample | val | VQA acc. | tiny_1 | flamingo | 200 | 63.1 ±2.0 | - |",
        "| coco (rices) | test | CIDEr | a\\|b | flamingo | 9 | undefined | 80.0 !3 |",
    ]


def test_csv_keeps_full_precision() -> None:
    rows = list(csv.DictReader(io.StringIO(csv_text(TABLE))))
    assert [r["value"] for r in rows] == ["63.149", "", "80.0"]
    assert rows[0]["low"] == "61.0"
    assert rows[1]["why"] == "one picture"
    assert (rows[2]["seeds"], rows[2]["spread"], rows[2]["failed"]) == ("0 1", "2.0", "3")


def test_latex_escapes() -> None:
    text = latex(TABLE)
    assert r"tiny\_1" in text
    assert r"63.1 $\pm$2.0" in text
    assert r"\begin{tabular}{lllllrrr}" not in text, "the protocol is the same in both rows: it goes into the caption"
    assert r"\begin{tabular}{llllrrr}" in text
    assert r"protocol flamingo" in text.splitlines()[3]
    assert text.count(r"\toprule") == text.count(r"\midrule") == text.count(r"\bottomrule") == 1
    assert r"never compare it with published scores\par" in text
    assert latex(TABLE, "A caption & more", "tab:mine").count(r"\label{tab:mine}") == 1


def test_json_and_notes() -> None:
    value = json_value(TABLE)
    assert json.loads(json.dumps(value))["rows"][0]["cells"]["0"]["value"] == 63.149
    notes = " ".join(notes_of(TABLE))
    assert "never compare it with published scores" in notes
    assert "undefined: one picture" in notes
    assert "3 queries failed, not scored" in notes


def test_a_cell_without_a_run() -> None:
    assert cell_text(None) == "-"


def test_a_curve_that_cannot_show_learning_says_so_below_the_table() -> None:
    def row(task: str, *values: float, published: str = "", metric: str = "exact_match") -> Row:
        cells = {shots: Cell(v, None, (0,), None, 9, 0) for shots, v in zip((0, 1, 4), values, strict=False)}
        return Row(task, "val", metric, "m", "p", "random", "", cells, published)

    rows = (
        row("zero", 0.0, 0.0, 0.0),
        row("as-zero", 0.0, 0.0, 0.0),
        row("full", 98.5, 20.0, 10.0),
        row("learns", 0.0, 1.0, 2.0),
        row("one number", 0.0),
        row("theirs", 0.0, 0.0, published="a paper"),
        row("zero", 0.0, 0.0, 0.0, metric="ceiling"),
        row("captions", 120.0, 121.0, metric="cider"),
    )
    notes = [note for note in notes_of(Table(rows, (0, 1, 4))) if "learning" in note]
    assert notes == [
        "cannot show learning in context, 0.0 at every number of shots: zero, as-zero",
        "cannot show learning in context, 98.5 at 0 shots already: full",
    ]
