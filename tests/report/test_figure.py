"""The figure: valid SVG, the right places, nothing but its own markup."""

from __future__ import annotations

import re
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from flamingo_eval.report.figure import COLOURS, axis, panels_of, series_of, svg_file
from flamingo_eval.report.tables import METRIC_TITLES, Cell, Row, Table
from flamingo_eval.runs.folder import BELOW, CEILING

SVG = "{http://www.w3.org/2000/svg}"


def cell(value: float | None, half: float = 2.0) -> Cell:
    interval = None if value is None else (value - half, value + half)
    return Cell(value, interval, (0, 1), 0.5, 100, 0)


ROW = Row("vqav2", "val", "vqa_accuracy", "m", "flamingo", "random", "", {0: cell(40.0), 4: cell(50.0), 32: cell(60.0)})
TABLE = Table((ROW, replace(ROW, model="n", cells={4: cell(45.0), 8: cell(None)})), (0, 4, 8, 32))


def test_a_file_is_one_well_formed_svg_with_both_colour_schemes() -> None:
    root = ElementTree.fromstring(svg_file(TABLE))
    assert root.tag == f"{SVG}svg"
    assert root.get("role") == "img"
    assert "m: 40.0 at 0, 50.0 at 4, 60.0 at 32" in root.get("aria-label", "")
    assert "prefers-color-scheme: dark" in "".join(root.itertext())


def test_higher_scores_stand_higher_and_intervals_reach_around_them() -> None:
    root = ElementTree.fromstring(svg_file(Table((ROW,), TABLE.shots)))
    points = [p for p in root.iter(f"{SVG}circle") if p.find(f"{SVG}title") is not None]
    ys = [float(p.get("cy", "nan")) for p in points]
    assert ys == sorted(ys, reverse=True)
    whiskers = [w for w in root.iter(f"{SVG}line") if w.get("class") == "whisker"]
    for y, whisker in zip(ys, whiskers, strict=True):
        assert float(whisker.get("y2", "nan")) < y < float(whisker.get("y1", "nan"))


def test_points_say_their_numbers() -> None:
    (panel,) = panels_of(TABLE)
    assert "<title>m, 4 shots: 50.0 (95 %: 48.0 to 52.0)</title>" in panel.markup
    assert len(re.findall("<circle", panel.markup)) == 4  # the undefined cell has none


def test_a_task_without_any_number_has_no_panel() -> None:
    assert panels_of(Table((replace(ROW, cells={4: cell(None)}),), (4,))) == []
    assert ElementTree.fromstring(svg_file(Table((), ()))).tag == f"{SVG}svg"


def test_one_number_of_shots_is_drawn_without_a_line() -> None:
    (panel,) = panels_of(Table((replace(ROW, cells={4: cell(50.0)}),), (4,)))
    assert "polyline" not in panel.markup
    assert "circle" in panel.markup


def test_series_keep_their_colour_in_every_panel_and_ours_come_first() -> None:
    published = replace(ROW, model="Flamingo-9B", published="a paper")
    table = Table((published, ROW, replace(ROW, task="coco")), (0, 4, 32))
    series = series_of(table)
    assert [(s.number, s.label, s.kind) for s in series.values()] == [
        (0, "m", "ours"),
        (1, "Flamingo-9B, published", "published"),
    ]
    assert 'class="s1 published"' in panels_of(table)[0].markup
    many = Table(tuple(replace(ROW, model=f"m{i}") for i in range(COLOURS + 2)), (0, 4, 32))
    ElementTree.fromstring(svg_file(many))


def test_hostile_names_stay_text() -> None:
    bad = replace(ROW, model='</svg><script>alert(1)</script>"\u202e', task='x"><img onerror=1>')
    root = ElementTree.fromstring(svg_file(Table((bad,), TABLE.shots)))
    assert not list(root.iter(f"{SVG}script"))
    assert {e.tag for e in root.iter()} <= {
        SVG + t for t in ("svg", "style", "rect", "g", "line", "text", "polygon", "polyline", "circle", "title")
    }
    assert "\u202e" not in svg_file(Table((bad,), TABLE.shots))


@pytest.mark.parametrize("values", [[0.0], [50.0, 50.0], [0.1, 99.9], [-3.0, 4.0], [1e-9, 2e-9], [310.0, 12.0]])
def test_axes_hold_the_values_with_a_few_round_ticks(values: list[float]) -> None:
    low, high, step = axis(values)
    assert low <= min(values) <= max(values) <= high
    assert 2 <= round((high - low) / step) <= 8
    assert low >= 0 or min(values) < 0


def test_a_ceiling_stands_in_the_panel_of_its_task() -> None:
    other = replace(ROW, model="n")
    ceilings = [replace(r, metric=CEILING, cells={4: cell(80.0)}) for r in (ROW, other)]
    table = Table((ROW, ceilings[0], other, ceilings[1]), TABLE.shots)
    (panel,) = panels_of(table)
    assert panel.metric == "VQA acc."
    assert panel.markup.count('class="ceiling"') == 1
    assert [s.label for s in series_of(table).values()] == ["m", "n", METRIC_TITLES[CEILING]]


def test_baselines_of_the_shots_are_lines_with_dashes_of_their_own() -> None:
    below = [replace(ROW, metric=name, cells={4: cell(80.0)}) for name in BELOW]
    table = Table((ROW, *below), TABLE.shots)
    assert [s.style for s in series_of(table).values()] == ["s0", "ceiling", "d1 ceiling", "d2 ceiling"]
    (panel,) = panels_of(table)
    assert panel.metric == "VQA acc."
