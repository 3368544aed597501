"""The figure in the format that its name says, with one colour a model and axes that can be compared."""

from __future__ import annotations

import io
import re
import sys
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from flamingo_eval.errors import MissingDependency, UsageError
from flamingo_eval.report.figure import LIGHT, panels_of, series_of, svg_file
from flamingo_eval.report.figure_file import chosen_panels, figure_bytes
from flamingo_eval.report.tables import Cell, Row, Table

CELLS = {0: Cell(40.0, (35.0, 44.0), (0,), None, 100, 0), 4: Cell(60.0, (55.0, 66.0), (0,), None, 100, 0)}
ROW = Row("vqav2@sample", "val", "vqa_accuracy", "tiny", "flamingo", "random", "", CELLS)
TABLE = Table((ROW, replace(ROW, model="other"), replace(ROW, task="coco", metric="cider", model="other")), (0, 4))


@pytest.mark.slow
def test_the_suffix_says_the_format() -> None:
    pytest.importorskip("svglib")
    pytest.importorskip("resvg_py")
    assert ElementTree.fromstring(figure_bytes(Path("a.svg"), TABLE)).tag.endswith("svg")
    pdf = figure_bytes(Path("a.PDF"), TABLE)
    assert pdf.startswith(b"%PDF-")
    assert b"BitstreamVeraSans" in pdf, "fonts are embedded"
    picture = Image.open(io.BytesIO(figure_bytes(Path("a.png"), TABLE))).convert("RGB")
    assert picture.width > 1000
    pixels = np.asarray(picture).reshape(-1, 3)
    colours = {tuple(colour) for colour in np.unique(pixels, axis=0).tolist()}
    for name in LIGHT[:2]:
        assert tuple(bytes.fromhex(name[1:])) in colours
    assert (pixels.sum(axis=1, dtype=int) < 200).sum() > 2000, "titles are drawn"


@pytest.mark.parametrize("name", ["a", "a.jpg", "a.svg.txt", "a.eps"])
def test_another_format_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match=r"Expected a name that ends in \.svg, \.pdf, \.png"):
        figure_bytes(Path(name), TABLE)


@pytest.mark.parametrize(("name", "library"), [("a.pdf", "svglib.svglib"), ("a.png", "resvg_py")])
def test_a_missing_extra_is_named(name: str, library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingDependency, match=r"flamingo-eval\[figures\]"):
        figure_bytes(Path(name), TABLE)


def test_panels_are_chosen_by_task() -> None:
    assert [p.title for p in panels_of(chosen_panels(TABLE, ["vqav2"]))] == ["vqav2@sample (val)"]
    assert len(panels_of(chosen_panels(TABLE, ["coco", "vqav2@sample"]))) == 2
    with pytest.raises(UsageError, match=r"(?s)'vqa2'.*Did you mean 'vqav2'"):
        chosen_panels(TABLE, ["vqa2"])


def test_a_model_has_one_colour_and_its_lines_differ_in_dashes() -> None:
    rows = (ROW, replace(ROW, demos="rices"), replace(ROW, model="other"), replace(ROW, model="other", ablation="x"))
    styles = {key: series.style for key, series in series_of(Table(rows, (0, 4))).items()}
    assert list(styles.values()) == ["s0", "s0 d1", "s1", "s1 d1"]
    alone = series_of(Table(rows[:2], (0, 4)))
    assert [s.style for s in alone.values()] == ["s0", "s1"], "one model alone: a colour a line"


def test_panels_of_one_task_have_one_axis() -> None:
    high = replace(ROW, split="test", cells={0: Cell(900.0, None, (0,), None, 1, 0)})
    panels = panels_of(Table((ROW, high), (0, 4)))
    low, up = (re.findall(r'class="tick end"[^>]*>([^<]+)<', panel.markup) for panel in panels)
    assert low == up


def test_a_plain_file_has_no_variables() -> None:
    assert "var(" not in svg_file(TABLE, plain=True)
    assert "var(" in svg_file(TABLE)
