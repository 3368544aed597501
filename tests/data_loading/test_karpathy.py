from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from flamingo_eval.data.layouts import load_labelled, load_split
from flamingo_eval.errors import DataError
from tests.support.fixture_types import TaskNamed, Write


def image(
    n: int, split: str, captions: Sequence[str] = ("A kite.", "A red kite."), folder: str = "val2014", **more: Any
) -> dict[str, Any]:
    return {
        "filepath": folder,
        "filename": f"COCO_{folder}_{n:012d}.jpg",
        "cocoid": n,
        "imgid": n,
        "split": split,
        "sentences": [{"raw": c, "tokens": [], "sentid": i} for i, c in enumerate(captions)],
    } | more


def test_the_folder_comes_from_filepath_and_every_caption_is_kept(
    write: Write, task: TaskNamed, tmp_path: Path
) -> None:
    six = [f"Caption {i}." for i in range(6)]
    write(
        "dataset_coco.json",
        {"images": [image(1, "train", folder="train2014"), image(2, "restval"), image(3, "test", six)]},
    )
    write("val2014/COCO_val2014_000000000003.jpg")
    coco = task("coco")
    (example,) = load_labelled(coco, tmp_path).examples
    assert (example.id, example.references, example.answer) == ("3", tuple(six), "Caption 0.")
    (example,) = load_split(coco, tmp_path, "test").examples
    assert example.media[0].path == tmp_path / "val2014/COCO_val2014_000000000003.jpg"
    assert [e.id for e in load_split(coco, tmp_path, "train").examples] == ["1"]
    assert [e.id for e in load_split(coco, tmp_path, "train+restval").examples] == ["1", "2"]


def test_a_flat_folder_of_pictures_is_found(write: Write, task: TaskNamed, tmp_path: Path) -> None:
    write("dataset_coco.json", {"images": [image(3, "test")]})
    picture = write("images/COCO_val2014_000000000003.jpg")
    assert load_split(task("coco"), tmp_path, "test").examples[0].media[0].path == picture


def test_a_split_that_the_file_does_not_have_says_which_it_has(write: Write, task: TaskNamed, tmp_path: Path) -> None:
    write("dataset_coco.json", {"images": [image(1, "train"), image(3, "val")]})
    with pytest.raises(DataError, match=r"Expected pictures of test, got train, val\."):
        load_split(task("coco"), tmp_path, "test")
    assert load_labelled(task("coco"), tmp_path).name == "val"


def test_broken_records_are_all_named(write: Write, task: TaskNamed, tmp_path: Path) -> None:
    write(
        "dataset_coco.json", {"images": [image(3, "test"), image(3, "test"), image(4, "tset"), image(5, "test", [" "])]}
    )
    with pytest.raises(DataError) as caught:
        load_split(task("coco"), tmp_path, "test")
    assert [str(p) for p in caught.value.problems] == [
        "images[1].cocoid: duplicate id 3; first at images[0]. Remove one of them.",
        "images[2].split: 'tset' is not one of train, restval, val, test.",
        "images[3].sentences[0].raw: is empty.",
    ]
