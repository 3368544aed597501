"""Which file a name stands for, and what is said of a name that stands for none."""

from __future__ import annotations

import io
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image as PillowImage

from flamingo_eval.config.specs import TaskSpec
from flamingo_eval.data.check import check_task
from flamingo_eval.data.folders import IMAGE_SUFFIXES, MediaFolders
from flamingo_eval.data.layouts import load_split
from flamingo_eval.data.task_file import load_task
from flamingo_eval.errors import MediaError
from flamingo_eval.records import Image
from tests.support.fixture_types import Write
from tests.support.opened import level, opened

TASK = """
name: mine
title: Mine
modality: image
mode: open-ended
prompt: qa
data:
  layout: rows
  query: val
  support: null
  splits:
    val: {rows: [val.jsonl, "val*.parquet"], images: [images]}
metrics: [exact_match]
"""


def png(level: int = 7) -> bytes:
    file = io.BytesIO()
    PillowImage.new("L", (4, 4), level).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def mine(write: Write) -> TaskSpec:
    return load_task(write("mine.yaml", TASK))


def rows(*names: str) -> list[dict[str, str]]:
    return [{"image": name, "question": "What?", "answers": "cat"} for name in names]


def test_a_picture_under_exactly_its_name_is_found_whatever_its_suffix(
    write: Write, mine: TaskSpec, tmp_path: Path
) -> None:
    names = ("00a1", "b.jfif", "c.JPE", "d.PNG", "e.avif", "f.v2", "g")
    for name in (*names[:-1], "g.png"):
        write(f"images/{name}", png())
    write("val.jsonl", rows(*names))
    report = check_task(mine, tmp_path)
    assert report.problems == ()
    assert report.splits[0].media == 7


def test_an_exact_name_comes_before_one_with_a_suffix_and_a_folder_is_no_picture(write: Write, tmp_path: Path) -> None:
    write("a/x.png")
    write("images/b")
    write("images/b.jpg")
    (tmp_path / "a/x").mkdir()
    folders = MediaFolders(tmp_path, ["a", "images"])
    assert folders.find(("x",), IMAGE_SUFFIXES) == tmp_path / "a/x.png"
    assert folders.find(("b",), IMAGE_SUFFIXES) == tmp_path / "images/b"


def test_no_name_is_reported_that_nobody_gave(write: Write, mine: TaskSpec, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    write("val.jsonl", rows("00a1", "b.jfif", "sub/c.jpg"))
    assert [str(p) for p in check_task(mine, tmp_path).problems] == [
        f"{tmp_path / 'images/00a1'}: there is no such file, with or without a suffix.",
        f"{tmp_path / 'images/b.jfif'}: there is no such file.",
        f"{tmp_path / 'images/sub/c.jpg'}: there is no such file.",
    ]


def test_a_nested_name_is_found_flat_where_there_is_no_such_sub_folder(
    write: Write, mine: TaskSpec, tmp_path: Path
) -> None:
    write("images/a.png", png())
    write("images/other/b.png", png())
    write("images/c.png", png())
    write("val.jsonl", rows("nested/a.png", "other/c.png"))
    paths = [example.media[0].path for example in load_split(mine, tmp_path, "val").examples]
    assert paths == [tmp_path / "images/a.png", tmp_path / "images/other/c.png"]  # `other` is there, without c.png


@pytest.mark.parametrize(
    "name",
    [
        "x" * 300 + ".jpg",
        "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAgGBgcGBQgHBwcJ" * 9,
        "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==",
        "data:image/png;base64,iVBORw0KGgo" + "A" * 5000,
        "a\0b.jpg",
        "a/" * 3000 + "b.jpg",
    ],
)
def test_a_name_that_is_none_is_a_named_problem_in_short(
    write: Write, mine: TaskSpec, tmp_path: Path, name: str
) -> None:
    write("val.jsonl", rows(name))
    report = check_task(mine, tmp_path)
    assert report.splits[0].missing == 1
    (problem,) = map(str, report.problems)
    assert len(problem) < 600
    with pytest.raises(MediaError):
        opened(load_split(mine, tmp_path, "val").examples[0].media[0])
    if "/9j" in name or "iVBOR" in name:
        assert "expected a file name, got encoded data (base64)" in problem
    if name.startswith("xxx"):
        assert "at most 255 bytes, this one has 304" in problem


def table(path: Path, cells: list[object], kind: pa.DataType | None = None) -> Path:
    n = len(cells)
    columns = {"image": pa.array(cells, kind), "question": ["What?"] * n, "answers": ["cat"] * n}
    pq.write_table(pa.table(columns), path)
    return path


HUB_IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def test_a_cell_with_a_path_and_no_bytes_is_the_file_beside_the_table(
    write: Write, mine: TaskSpec, tmp_path: Path
) -> None:
    write("images/0.png", png(10))
    write("1.png", png(20))
    cells = [{"bytes": None, "path": "0.png"}, {"bytes": None, "path": "/home/someone/1.png"}]
    table(tmp_path / "val.parquet", [*cells, {"bytes": png(30), "path": "0.png"}], HUB_IMAGE)
    examples = load_split(mine, tmp_path, "val").examples
    assert [level(e.media[0]) for e in examples] == [10, 20, 30]
    assert isinstance(examples[2].media[0], Image)
    assert examples[2].media[0].column == "image"


def test_a_cell_without_a_picture_is_named_by_row_and_cause(mine: TaskSpec, tmp_path: Path) -> None:
    missing = [{"bytes": png(), "path": None}, {"bytes": None, "path": "gone.png"}, {"bytes": b"", "path": None}, None]
    path = table(tmp_path / "val.parquet", missing, HUB_IMAGE)
    assert [str(p) for p in check_task(mine, tmp_path).problems] == [
        f"{path}, row 2: column 'image' has the path 'gone.png' and no bytes, and there is no such file.",
        f"{path}, row 3: column 'image' has no bytes.",
        f"{path}, row 4: column 'image' is empty.",
    ]
    table(path, [[{"bytes": png(), "path": None}]] * 2)
    assert str(check_task(mine, tmp_path).problems[1]) == (
        f"{path}, row 2: column 'image' has a list of 1; expected one picture per row."
    )
    table(path, [3, 4])
    assert "row 1: column 'image' holds 3, not a picture's bytes" in str(check_task(mine, tmp_path).problems[0])
    table(path, [b"<html>"])
    assert "row 1: expected a picture that Pillow can read, got a web page" in str(
        check_task(mine, tmp_path).problems[0]
    )
