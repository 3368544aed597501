from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import pytest

from flamingo_eval.data.layouts import load_split
from flamingo_eval.data.layouts.imagenet import class_names
from flamingo_eval.errors import DataError
from tests.support.fixture_types import TaskNamed, Write

TENCH, GOLDFISH, CRANE_BIRD, CRANE = "n01440764", "n01443537", "n02012849", "n03126707"
OWN = f"{GOLDFISH} goldfish, Carassius auratus\n{TENCH} tench, Tinca tinca\n"


def test_the_class_index_is_the_place_among_sorted_wordnet_ids(write: Write, task: TaskNamed, tmp_path: Path) -> None:
    write(f"val/{GOLDFISH}/ILSVRC2012_val_00000002.JPEG")
    picture = write(f"val/{TENCH}/ILSVRC2012_val_00000001.JPEG")
    split = load_split(task("imagenet"), tmp_path, "val")
    assert [(e.id, e.target, e.answer) for e in split.examples] == [
        ("ILSVRC2012_val_00000001", 0, "tench"),
        ("ILSVRC2012_val_00000002", 1, "goldfish"),
    ]
    assert split.examples[0].media[0].path == picture
    assert len(split.candidates) == len(set(split.candidates)) == 1000


def test_names_are_unique_and_none_is_another_class_first_name() -> None:
    assert class_names(["crane", "crane", "maillot", "maillot, tank suit"]) == (
        "crane",
        "crane (2)",
        "maillot",
        "tank suit",
    )


def test_flat_val_with_the_development_kit_or_kaggles_solution(write: Write, task: TaskNamed, tmp_path: Path) -> None:
    write("val/ILSVRC2012_val_00000001.JPEG")
    picture = write("val/ILSVRC2012_val_00000002.JPEG")
    write("LOC_synset_mapping.txt", OWN)
    kit = "ILSVRC2012_devkit_t12/data"
    write(f"{kit}/ILSVRC2012_validation_ground_truth.txt", "450\n449\n")
    by_kit = load_split(task("imagenet"), tmp_path, "val")
    assert [(e.id[-1], e.answer, e.target) for e in by_kit.examples] == [("1", "goldfish", 1), ("2", "tench", 0)]
    assert by_kit.examples[1].media[0].path == picture
    assert by_kit.candidates == ("tench", "goldfish")
    solution = f"ILSVRC2012_val_00000001,{GOLDFISH} 1 2 3 4\nILSVRC2012_val_00000002,{TENCH} 1 2 3 4 {TENCH} 5 6 7 8\n"
    solution = f"ImageId,PredictionString\n{solution}"
    write("LOC_val_solution.csv", solution)
    assert load_split(task("imagenet"), tmp_path, "val").examples == by_kit.examples


def test_official_class_numbers_are_not_the_sorted_order(write: Write, task: TaskNamed, tmp_path: Path) -> None:
    """Numbers that the challenge's own list pins: kit fox first, dumbbell last, two cranes and two maillots apart."""
    official = {1: "n02119789", 429: CRANE_BIRD, 490: "n01751748", 545: CRANE, 782: "n03710637", 1000: "n03255030"}
    for n in range(1, len(official) + 1):
        write(f"val/ILSVRC2012_val_{n:08d}.JPEG")
    write("ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt", "".join(f"{n}\n" for n in official))
    split = load_split(task("imagenet"), tmp_path, "val")
    names = dict(line.split(" ", 1) for line in read("imagenet_synsets.txt").splitlines())
    assert [e.target for e in split.examples] == [list(names).index(wnid) for wnid in official.values()]
    assert sorted(read("ilsvrc2012_ids.txt").split()) == list(names)


def read(name: str) -> str:
    return files("flamingo_eval.data.layouts").joinpath(name).read_text("utf-8")


def test_labels_that_do_not_fit_the_pictures(write: Write, task: TaskNamed, tmp_path: Path) -> None:
    write("val/a.JPEG")
    kit = "ILSVRC2012_devkit_t12/data"
    write(f"{kit}/ILSVRC2012_validation_ground_truth.txt", "450\n449\n")
    with pytest.raises(DataError, match="2 lines for 1 pictures"):
        load_split(task("imagenet"), tmp_path, "val")
    for wrong in ("0", "1001", "-1", "4.5", "²"):
        write(f"{kit}/ILSVRC2012_validation_ground_truth.txt", f"{wrong}\n")
        with pytest.raises(DataError, match=rf"line 1: expected a class number from 1 to 1000, got '{wrong}'"):
            load_split(task("imagenet"), tmp_path, "val")
    (tmp_path / kit / "ILSVRC2012_validation_ground_truth.txt").unlink()
    with pytest.raises(DataError, match="found no classes of the pictures"):
        load_split(task("imagenet"), tmp_path, "val")


def test_an_unknown_class_is_named(write: Write, task: TaskNamed, tmp_path: Path) -> None:
    write("val/n00000001/a.JPEG")
    with pytest.raises(DataError, match="class n00000001 is not among the 1000 synsets"):
        load_split(task("imagenet"), tmp_path, "val")


def test_what_other_programs_leave_beside_the_classes_is_passed_over(
    write: Write, task: TaskNamed, tmp_path: Path
) -> None:
    write(f"val/{TENCH}/ILSVRC2012_val_00000001.JPEG")
    write(f"val/{TENCH}/._ILSVRC2012_val_00000001.JPEG")
    write(f"val/{TENCH}/.DS_Store")
    write("val/.ipynb_checkpoints/ILSVRC2012_val_00000001-checkpoint.JPEG")
    write(f"val/__MACOSX/{TENCH}/._ILSVRC2012_val_00000002.JPEG")
    write("val/__MACOSX/._x.JPEG")
    assert [e.id for e in load_split(task("imagenet"), tmp_path, "val").examples] == ["ILSVRC2012_val_00000001"]


def test_a_folder_that_is_no_class_is_named_once_with_what_to_do(write: Write, task: TaskNamed, tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        write(f"val/n00000001/{name}.JPEG")
    write(f"val/{TENCH}/d.JPEG")
    with pytest.raises(DataError) as caught:
        load_split(task("imagenet"), tmp_path, "val")
    assert len(caught.value.problems) == 1
    assert f"{tmp_path / 'val/n00000001'}" in str(caught.value)
    assert "Move it out of the folder" in str(caught.value)
