"""The in-context card: curves and their efficiency, rows and lines of its tables."""

from __future__ import annotations

from typing import Any

import pytest

from flamingo_eval.metrics.bootstrap import OverSeeds
from flamingo_eval.report.curve import curve_of, efficiency
from flamingo_eval.report.icl import (
    COPYING_TITLES,
    CURVE_TITLES,
    VERDICT_TITLES,
    card_rows,
    copying_line,
    curve_line,
    markdown_card,
    names_of,
    tables_of,
    verdict_line,
)


def scores(value: float, *draws: float) -> OverSeeds:
    return OverSeeds(value, (min(draws), max(draws)) if draws else None, None, draws)


def test_efficiency_is_the_mean_gain_over_zero_shots() -> None:
    assert efficiency({0: 10.0, 4: 10.0, 8: 10.0}) == 0.0
    assert efficiency({0: 0.0, 1: 100.0}) == 50.0
    assert efficiency({0: 40.0, 8: 20.0}) == -10.0
    # VL-ICL's own check: GILL on fast counting, a zero-shot score of about 34, published -26.3
    assert efficiency({0: 34.0, 1: 8.3, 2: 3.3, 4: 3.4, 5: 7.4}) == pytest.approx(-26.2, abs=0.4)


def test_a_curve_has_its_peak_and_a_paired_change() -> None:
    draws = {0: [30.0 + i % 3 for i in range(100)], 4: [60.0 + i % 5 for i in range(100)], 8: [50.0] * 100}
    curve = curve_of({0: scores(31.0, *draws[0]), 4: scores(62.0, *draws[4]), 8: scores(50.0, *draws[8])})
    assert curve is not None
    assert (curve.zero.value, curve.peak.value, curve.peak_shots) == (31.0, 62.0, 4)
    assert curve.efficiency.value == pytest.approx(((0 + 31) / 2 * 4 + (31 + 19) / 2 * 4) / 8)
    assert curve.efficiency.ci95 is not None
    low, high = curve.efficiency.ci95
    assert low < (curve.efficiency.value or 0) < high
    assert curve.change is not None
    assert (curve.fewest, curve.most, curve.change.difference) == (0, 8, 19.0)
    assert curve.change.p_value < 0.05


def test_a_falling_curve_has_a_negative_efficiency_with_its_interval() -> None:
    down = curve_of(
        {0: scores(50.0, *(50.0 + i % 3 for i in range(99))), 4: scores(10.0, *(10.0 + i % 4 for i in range(99)))}
    )
    assert down is not None
    assert down.efficiency.value == -20.0
    assert down.efficiency.ci95 is not None
    assert down.efficiency.ci95[1] < 0


def test_without_zero_shots_there_is_no_efficiency() -> None:
    curve = curve_of({4: scores(62.0), 8: scores(50.0)})
    assert curve is not None
    assert curve.zero.value is None
    assert curve.efficiency.value is None
    assert curve.change is None, "no draws, no test"
    assert curve_of({}) is None


def test_a_row_of_one_number_of_shots_has_no_curve_to_judge(make_run: Any) -> None:
    folders = [make_run("red", shots=4), make_run("red", shots=0, model="n"), make_run("1", shots=4, model="n")]
    alone, row = card_rows(folders)
    assert (alone.model, len(alone.copying)) == ("m", 1)
    assert row.curve is not None
    assert (row.model, row.curve.fewest, row.curve.most) == ("n", 0, 4)
    assert row.curve.zero.value == pytest.approx(100 / 12)
    assert row.curve.peak_shots == 4
    assert row.curve.efficiency.value == pytest.approx((50 - 100 / 12) / 2)
    line = dict(zip(CURVE_TITLES, curve_line(row.name, row.curve), strict=True))
    assert line["task"] == "vqav2, val"
    assert line["shots"] == "0 to 4"
    assert line["change"].startswith("+41.7 (")
    assert names_of([alone, row]) == ["vqav2, val, m, flamingo", "vqav2, val, n, flamingo"]
    assert names_of([row]) == ["vqav2, val"]


def test_every_line_has_a_cell_a_title(make_run: Any) -> None:
    (row,) = card_rows([make_run("red", shots=0), make_run("1", shots=4)])
    assert len(verdict_line(row)) == len(VERDICT_TITLES)
    assert [len(copying_line(row.name, at)) for at in row.copying] == [len(COPYING_TITLES)] * 2
    assert row.verdict.kind == "rises"
    assert "where no shot shows the answer" in row.verdict.text


def test_the_card_as_markdown_has_three_tables_and_notes(make_run: Any) -> None:
    rows = card_rows([make_run("red", shots=0), make_run("1", shots=4)])
    text = markdown_card(rows)
    assert text.count("\n| ---") + text.startswith("| ---") == 3
    assert "| vqav2, val | 4 |" in text
    assert "\n- covered: % of queries" in text
    alone = tables_of(card_rows([make_run("red", shots=4, model="n")]))
    assert [table.titles for table in alone] == [VERDICT_TITLES, COPYING_TITLES], "one number of shots has no curve"
