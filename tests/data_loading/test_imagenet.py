from __future__ import annotations

import struct
import zlib

import pytest

from flamingo_eval.data.layouts import load_split
from flamingo_eval.data.layouts.imagenet import class_names
from flamingo_eval.data.matlab import read_matlab
from flamingo_eval.errors import DataError

TENCH, GOLDFISH, CRANE_BIRD, CRANE = "n01440764", "n01443537", "n02012849", "n03126707"
OWN = f"{GOLDFISH} goldfish, Carassius auratus\n{TENCH} tench, Tinca tinca\n"


def element(kind, data):
    return struct.pack("<II", kind, len(data)) + data + b"\0" * (-len(data) % 8)


def matrix(kind, dims, name, *parts):
    head = element(6, struct.pack("<II", kind, 0)) + element(5, struct.pack("<ii", *dims)) + element(1, name)
    return element(14, head + b"".join(parts))


def number(value):
    return matrix(6, (1, 1), b"", element(9, struct.pack("<d", value)))


def text(value):
    return matrix(4, (1, len(value)), b"", element(4, value.encode("utf-16-le")))


def meta_mat(*synsets):
    """A development kit's table, written as MATLAB does: a compressed struct array."""
    keys = [b"ILSVRC2012_ID", b"WNID", b"num_children"]
    names = b"".join(k.ljust(32, b"\0") for k in keys)
    cells = [c for id, wnid, children in synsets for c in (number(id), text(wnid), number(children))]
    body = matrix(2, (len(synsets), 1), b"synsets", element(5, struct.pack("<i", 32)), element(1, names), *cells)
    return b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM" + struct.pack("<II", 15, len(z := zlib.compress(body))) + z


def test_the_class_index_is_the_place_among_sorted_wordnet_ids(write, task, tmp_path):
    write(f"val/{GOLDFISH}/ILSVRC2012_val_00000002.JPEG")
    picture = write(f"val/{TENCH}/ILSVRC2012_val_00000001.JPEG")
    split = load_split(task("imagenet"), tmp_path, "val")
    assert [(e.id, e.target, e.answer) for e in split.examples] == [
        ("ILSVRC2012_val_00000001", 0, "tench"),
        ("ILSVRC2012_val_00000002", 1, "goldfish"),
    ]
    assert split.examples[0].media[0].path == picture
    assert len(split.candidates) == len(set(split.candidates)) == 1000


def test_names_are_unique_and_none_is_another_class_first_name():
    assert class_names(["crane", "crane", "maillot", "maillot, tank suit"]) == (
        "crane",
        "crane (2)",
        "maillot",
        "tank suit",
    )


def test_flat_val_with_the_development_kit_or_kaggles_solution(write, task, tmp_path):
    write("val/ILSVRC2012_val_00000001.JPEG")
    picture = write("val/ILSVRC2012_val_00000002.JPEG")
    write("LOC_synset_mapping.txt", OWN)
    kit = "ILSVRC2012_devkit_t12/data"
    write(f"{kit}/ILSVRC2012_validation_ground_truth.txt", "2\n1\n")
    write(f"{kit}/meta.mat", meta_mat((1, TENCH, 0), (2, GOLDFISH, 0), (3, "n00001740", 2)))
    by_kit = load_split(task("imagenet"), tmp_path, "val")
    assert [(e.id[-1], e.answer, e.target) for e in by_kit.examples] == [("1", "goldfish", 1), ("2", "tench", 0)]
    assert by_kit.examples[1].media[0].path == picture
    assert by_kit.candidates == ("tench", "goldfish")
    solution = f"ILSVRC2012_val_00000001,{GOLDFISH} 1 2 3 4\nILSVRC2012_val_00000002,{TENCH} 1 2 3 4 {TENCH} 5 6 7 8\n"
    solution = f"ImageId,PredictionString\n{solution}"
    write("LOC_val_solution.csv", solution)
    assert load_split(task("imagenet"), tmp_path, "val").examples == by_kit.examples


def test_labels_that_do_not_fit_the_pictures(write, task, tmp_path):
    write("val/a.JPEG")
    kit = "ILSVRC2012_devkit_t12/data"
    write(f"{kit}/ILSVRC2012_validation_ground_truth.txt", "2\n1\n")
    write(f"{kit}/meta.mat", meta_mat((1, TENCH, 0), (2, GOLDFISH, 0)))
    with pytest.raises(DataError, match="2 lines for 1 pictures"):
        load_split(task("imagenet"), tmp_path, "val")
    write(f"{kit}/ILSVRC2012_validation_ground_truth.txt", "7\n")
    with pytest.raises(DataError, match=r"line 1: '7' is no class number of meta\.mat"):
        load_split(task("imagenet"), tmp_path, "val")
    (tmp_path / kit / "meta.mat").unlink()
    with pytest.raises(DataError, match="nothing says which class a picture is of"):
        load_split(task("imagenet"), tmp_path, "val")


def test_an_unknown_class_is_named(write, task, tmp_path):
    write("val/n00000001/a.JPEG")
    with pytest.raises(DataError, match="class n00000001 is not among the 1000 synsets"):
        load_split(task("imagenet"), tmp_path, "val")


def test_broken_matlab_files_are_data_errors(write):
    whole = meta_mat((1, TENCH, 0))
    assert read_matlab(write("a.mat", whole))["synsets"] == [
        {"ILSVRC2012_ID": [1.0], "WNID": TENCH, "num_children": [0.0]}
    ]
    for broken in (b"", b"x" * 200, whole[:-20], whole[:140], whole[:128] + b"\x0e\0\0\0\xff\xff\xff\x7f"):
        with pytest.raises(DataError, match=r"a\.mat: not"):
            read_matlab(write("a.mat", broken))
