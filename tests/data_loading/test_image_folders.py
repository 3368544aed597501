"""Pictures elsewhere than the annotation files: --images, COCO's names of 2017, folders in another case."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from PIL import Image as PillowImage
from typer.testing import CliRunner

from flamingo_eval.cli import app
from flamingo_eval.data.check import check_task
from flamingo_eval.data.layouts import load_split
from flamingo_eval.data.roots import DataRoot, data_root
from flamingo_eval.errors import DataError
from tests.support.fixture_types import TaskNamed, Write


@pytest.fixture
def jpeg() -> bytes:
    file = io.BytesIO()
    PillowImage.radial_gradient("L").resize((16, 12)).save(file, "JPEG")
    return file.getvalue()


def karpathy(name: str = "COCO_val2014_000000391895.jpg", split: str = "test") -> dict[str, Any]:
    record = {"filename": name, "filepath": "val2014", "cocoid": 391895, "split": split}
    return {"images": [{**record, "sentences": [{"raw": "A kite."}]}]}


VQA = {
    "v2_OpenEnded_mscoco_val2014_questions.json": {
        "questions": [{"question_id": 1, "image_id": 391895, "question": "What?"}]
    },
    "v2_mscoco_val2014_annotations.json": {
        "annotations": [{"question_id": 1, "image_id": 391895, "answers": [{"answer": "kite"}] * 10}]
    },
}


@pytest.mark.parametrize(
    "place",
    [
        "val2014/COCO_val2014_000000391895.jpg",
        "COCO_val2014_000000391895.jpg",
        "images/COCO_val2014_000000391895.jpg",
        "val2017/000000391895.jpg",
        "train2017/000000391895.jpg",
        "images/000000391895.jpg",
        "images/val2017/000000391895.jpg",
        "VAL2014/COCO_val2014_000000391895.jpg",
        "Images/Val2014/COCO_val2014_000000391895.jpg",
        "000000391895.jpg",
    ],
)
def test_coco_pictures_are_found_by_either_years_names_nested_or_flat(
    write: Write, task: TaskNamed, tmp_path: Path, jpeg: bytes, place: str
) -> None:
    picture = write(place, jpeg)
    for name, value in VQA.items():
        write(name, value)
    (example,) = load_split(task("vqav2"), tmp_path, "val").examples
    assert example.media[0].path == picture
    assert example.media_id == "COCO_val2014_000000391895.jpg"
    write("dataset_coco.json", karpathy())
    (example,) = load_split(task("coco"), tmp_path, "test").examples
    assert example.media[0].path == picture


@pytest.mark.parametrize(
    "place",
    [
        "val2014/COCO_val2014_000000391895.jpg",
        "coco/val2014/COCO_val2014_000000391895.jpg",
        "COCO_val2014_000000391895.jpg",
        "val2017/000000391895.jpg",
        "000000391895.jpg",
    ],
)
def test_pictures_are_looked_for_in_the_folders_given_first(
    write: Write, task: TaskNamed, tmp_path: Path, jpeg: bytes, place: str
) -> None:
    picture = write(f"elsewhere/{place}", jpeg)
    write("data/val2014/other.jpg", jpeg)
    write("empty/nothing.txt", "")
    write("data/dataset_coco.json", karpathy())
    images = tuple(tmp_path / name for name in ("empty", "elsewhere", "elsewhere/coco") if (tmp_path / name).is_dir())
    root = DataRoot(tmp_path / "data", images)
    (example,) = load_split(task("coco"), root, "test").examples
    assert example.media[0].path == picture
    assert check_task(task("coco"), root, "test").problems == ()


def test_annotation_folders_may_be_written_in_another_case(write: Write, task: TaskNamed, tmp_path: Path) -> None:
    write("annotations/val.json", [{"image": "a.jpg", "question": "What?", "answers": [{"answer": "x"}] * 10}])
    assert load_split(task("vizwiz"), tmp_path, "val").files == (tmp_path / "annotations/val.json",)


def test_a_folder_of_pictures_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"--images .*gone: there is no such folder"):
        data_root("sample", "vqav2", [str(tmp_path / "gone")])
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"--images .*file: it is a file"):
        data_root("sample", "vqav2", [str(tmp_path / "file")])


def test_the_option_is_repeatable_and_the_settings_may_hold_it(
    write: Write, tmp_path: Path, jpeg: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("data/dataset_coco.json", karpathy())
    write("two/val2017/000000391895.jpg", jpeg)
    (tmp_path / "one").mkdir()
    monkeypatch.chdir(tmp_path)
    command = ["check", "coco", "--data", "data", "--split", "test"]
    assert CliRunner().invoke(app, command).exit_code == 1
    assert CliRunner().invoke(app, [*command, "--images", "one", "--images", "two"]).exit_code == 0
    write("flamingo-eval.yaml", "images: [one, two]\n")
    assert CliRunner().invoke(app, command).exit_code == 0
