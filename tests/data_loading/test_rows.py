from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image as PillowImage

from flamingo_eval.config.specs import HubSpec, TaskSpec
from flamingo_eval.data.check import check_task
from flamingo_eval.data.layouts import load_split, splits_on_disk
from flamingo_eval.data.roots import HUB_ROOT
from flamingo_eval.data.task_file import load_task
from flamingo_eval.errors import DataError, UsageError
from flamingo_eval.records import Image, Video
from tests.support.fixture_types import TaskNamed, Write
from tests.support.opened import level, opened

YAML = """
name: mine
title: Mine
modality: image
mode: {mode}
prompt: qa
data:
  layout: rows
  query: val
  support: null
  options: {options}
  splits:
    val: {{rows: [val.jsonl, val.json, val.csv, val.tsv, "val*.parquet"], images: [images, .]{classes}}}
metrics: [exact_match]
"""


MakeTask = Callable[..., TaskSpec]


@pytest.fixture
def mine(write: Write) -> MakeTask:
    def _mine(options: str = "{}", mode: str = "open-ended", classes: str = "") -> TaskSpec:
        more = f", classes: {classes}" if classes else ""
        return load_task(write("mine.yaml", YAML.format(options=options, mode=mode, classes=more)))

    return _mine


def png(level: int) -> bytes:
    file = io.BytesIO()
    PillowImage.new("L", (4, 4), level).save(file, "PNG")
    return file.getvalue()


ROW = {"image": "a.jpg", "question": "What?", "answers": ["cat", "kitten"]}


def test_json_lines_json_and_csv_are_the_same_rows(write: Write, mine: MakeTask, tmp_path: Path) -> None:
    picture = write("images/a.jpg")
    write("val.jsonl", [ROW])
    (example,) = load_split(mine(), tmp_path, "val").examples
    assert (example.id, example.media, example.references) == ("0", (Image(picture),), ("cat", "kitten"))
    assert (example.fields, example.answer, example.media_id) == ({"question": "What?"}, "cat", "a.jpg")
    (tmp_path / "val.jsonl").unlink()
    write("val.json", [ROW])
    assert load_split(mine(), tmp_path, "val").examples == (example,)
    (tmp_path / "val.json").unlink()
    answers = json.dumps(ROW["answers"]).replace('"', '""')
    write("val.csv", f'image,question,answers\na.jpg,What?,"{answers}"\n')
    assert load_split(mine(), tmp_path, "val").examples == (example,)
    (tmp_path / "val.csv").unlink()
    write("val.tsv", "image\tquestion\tanswers\na.jpg\tWhat?\tnull\n")
    assert load_split(mine(), tmp_path, "val").examples[0].references == ("null",)


def test_columns_can_have_other_names(write: Write, mine: MakeTask, tmp_path: Path) -> None:
    write(
        "val.jsonl", [{"bild": "a.jpg", "frage": "Was ist das", "antwort": "Katze", "nr": 7, "ort": "Ulm", "art": "x"}]
    )
    options = (
        "{image: bild, question: frage, answers: antwort, id: nr, fields: ort, labels: art, question_mark: append}"
    )
    (example,) = load_split(mine(options), tmp_path, "val").examples
    assert (example.id, example.references, example.labels) == ("7", ("Katze",), {"art": "x"})
    assert example.fields == {"ort": "Ulm", "question": "Was ist das?"}
    with pytest.raises(DataError) as caught:
        load_split(mine("{image: bilt}"), tmp_path, "val")
    assert "no column 'bilt'. Is it 'bild'?" in str(caught.value)
    assert "Columns found: bild, frage, antwort, nr, ort, art." in str(caught.value)


def test_candidates_of_a_row_and_classes_of_all(write: Write, mine: MakeTask, tmp_path: Path) -> None:
    rows = [{"image": "a.jpg", "question": "Q?", "candidates": ["x", "y"], "answers": "y"}]
    write("val.jsonl", rows)
    (example,) = load_split(mine(mode="close-ended"), tmp_path, "val").examples
    assert (example.candidates, example.target) == (("x", "y"), 1)
    write("val.jsonl", [{"image": "a.jpg", "label": "cat"}, {"image": "b.jpg", "label": "ant"}])
    split = load_split(mine(mode="close-ended"), tmp_path, "val")
    assert (split.candidates, [e.target for e in split.examples]) == (("ant", "cat"), [1, 0])
    write("val.jsonl", [{"image": "a.jpg", "label": 2}, {"image": "b.jpg", "label": "aunt"}])
    with pytest.raises(DataError, match=r"'aunt' is not one of the 3 classes. Is it 'ant'"):
        load_split(mine(mode="close-ended", classes="[ant, bee, cat]"), tmp_path, "val")


def test_rows_without_answers_make_an_unlabelled_split(write: Write, mine: MakeTask, tmp_path: Path) -> None:
    write("val.jsonl", [{"image": "a.jpg", "question": "What?"}])
    assert not load_split(mine(), tmp_path, "val").labelled
    write("val.jsonl", [ROW, {"image": "a.jpg", "question": "What?"}, {"question": "What?", "answers": "x"}])
    with pytest.raises(DataError) as caught:
        load_split(mine(), tmp_path, "val")
    assert [(p.line, p.key) for p in caught.value.problems] == [(2, "answers"), (3, "image")]


def test_clips(write: Write, mine: MakeTask, tmp_path: Path) -> None:
    write("val.jsonl", [{"video": "v", "start": 1, "end": 2.5, "question": "What?", "answers": "x"}])
    (example,) = load_split(mine(), tmp_path, "val").examples
    assert example.media == (Video(tmp_path / "v", 1.0, 2.5),)


def parquet(path: Path, *levels: int, **columns: Any) -> Path:
    images = [{"bytes": png(level), "path": "x.png"} for level in levels]
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"image": images, **columns}), path)
    return path


def test_pictures_inside_parquet_shards_stay_there_until_they_are_shown(mine: MakeTask, tmp_path: Path) -> None:
    parquet(tmp_path / "val-0.parquet", 10, 20, question=["A?", "B?"], answers=[["a"], ["b", "c"]])
    second = parquet(tmp_path / "val-1.parquet", 30, question=["C?"], answers=[["d"]])
    split = load_split(mine(), tmp_path, "val")
    assert [(e.id, e.references) for e in split.examples] == [("0", ("a",)), ("1", ("b", "c")), ("2", ("d",))]
    assert split.examples[2].media == (Image(second, "image", 0),)
    assert [level(e.media[0]) for e in split.examples] == [10, 20, 30]
    assert check_task(mine(), tmp_path).problems == ()


def test_a_cut_parquet_file_is_named(mine: MakeTask, tmp_path: Path) -> None:
    path = parquet(tmp_path / "val.parquet", 10, question=["A?"], answers=[["a"]])
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(DataError, match=r"val\.parquet: cannot be read as a table"):
        load_split(mine(), tmp_path, "val")


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)


def test_a_hub_mirror_is_read_through_its_columns(mine: MakeTask, tmp_path: Path, offline: None) -> None:
    """A folder of Parquet files stands for the Hub: `datasets` reads both in the same way."""
    mirror = tmp_path / "mirror"
    answers = [[{"answer": "a", "answer_id": 1}, {"answer": "b", "answer_id": 2}]]
    parquet(mirror / "data/validation-00000-of-00001.parquet", 77, q=["A?"], question_id=[5], answers=answers, pic=[9])
    columns = {"id": "question_id", "question": "q", "picture": "pic"}
    hub = HubSpec((str(tmp_path / "renamed"), str(mirror)), {"val": "validation"}, columns)
    task = mine()
    task = replace(task, data=replace(task.data, hub=hub, splits={"train": {}, **task.data.splits}))
    assert splits_on_disk(task, HUB_ROOT) == ("val",)
    (example,) = load_split(task, HUB_ROOT, "val").examples
    assert (example.id, example.references, example.fields) == ("5", ("a", "b"), {"question": "A?"})
    assert (example.media_id, example.media[0].path.suffix) == ("9", ".arrow")
    assert opened(example.media[0]).getpixel((0, 0)) == (77, 77, 77)
    with pytest.raises(UsageError, match="has no split 'train'"):
        load_split(task, HUB_ROOT, "train")


def test_a_task_without_a_mirror_says_where_its_data_are(task: TaskNamed, mine: MakeTask, offline: None) -> None:
    with pytest.raises(UsageError, match="coco has no complete mirror on the Hub"):
        load_split(task("coco"), HUB_ROOT, "test")
    spec = mine()
    gone = replace(spec, data=replace(spec.data, hub=HubSpec(("/nowhere/a", "/nowhere/b"), {"val": "val"}, {})))
    with pytest.raises(DataError) as caught:
        load_split(gone, HUB_ROOT, "val")
    assert "/nowhere/a: " in str(caught.value)
    assert "/nowhere/b: " in str(caught.value)
