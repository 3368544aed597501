"""Fresh copies: the same seed gives the same rows and pixels everywhere, a dial changes what it names and no more."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from flamingo_eval.config.names import find_task
from flamingo_eval.data.layouts import load_split
from flamingo_eval.data.roots import data_name
from flamingo_eval.data.task_file import load_task
from flamingo_eval.errors import DataError, UsageError
from flamingo_eval.prompting.ablations import check_ablation_of
from flamingo_eval.records import Split
from flamingo_eval.runs.plan import Choices, plan_runs
from flamingo_eval.runs.questions import load_questions
from flamingo_eval.runs.task_data import load_data
from flamingo_eval.sample.benchmarks import draws
from flamingo_eval.sample.fresh import clevr, objects, operators, textocr
from flamingo_eval.sample.fresh.copies import copy_of
from flamingo_eval.sample.fresh.dials import DIALS
from flamingo_eval.sample.world.scenes import concepts
from tests.support.slow import first_and_slow

FEW = {
    "vl_icl_open_mi": "queries=2,classes=3,pictures=2",
    "vl_icl_clevr": "queries=3,support=3",
    "vl_icl_operator_induction": "pairs=2",
    "vl_icl_operator_induction_interleaved": "pairs=2",
    "vl_icl_textocr": "queries=3,support=3",
    "vl_icl_matching_mi": "queries=4,support=2",
}

# of seed 7, rows and pixels as they are drawn, before any file format has a say
PIXELS = {
    "vl_icl_clevr": "a6e89856450186f5",
    "vl_icl_matching_mi": "c5ec5781882b06e9",
    "vl_icl_open_mi": "a052bcbcbeeaa467",
    "vl_icl_operator_induction": "edb1f3b8e84d8c06",
    "vl_icl_operator_induction_interleaved": "6b201e6e619487db",
    "vl_icl_textocr": "316ab3f6431da4b2",
}


def written(task: str, seed: int, out: Path, more: str = "") -> Path:
    copy_of(task, ",".join(w for w in (str(seed), FEW.get(task, ""), more) if w)).write(out)
    return out


def load(task: str, root: Path, part: str = "query") -> Split:
    return load_split(load_task(find_task(task)), root, part)


def files(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("task", first_and_slow(sorted(DIALS)))
def test_the_pixels_of_a_seed_are_pinned(task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No machine, thread count or library release may change them."""
    digest = hashlib.sha256()

    def note(pixels: np.ndarray, path: Path) -> None:
        digest.update(str(path.relative_to(tmp_path)).encode())
        digest.update(np.clip(pixels, 0, 255).astype(np.uint8).tobytes())

    for module in (clevr, objects, operators, textocr):
        monkeypatch.setattr(module, "save", note)
    written(task, 7, tmp_path)
    for file in sorted(tmp_path.rglob("*.json")):
        if not file.parent.name.endswith("_text"):
            digest.update(file.read_bytes())
    assert digest.hexdigest()[:16] == PIXELS[task]


@pytest.mark.slow
def test_another_process_with_other_threads_writes_the_same_bytes(tmp_path: Path) -> None:
    here = files(written("vl_icl_matching_mi", 3, tmp_path / "here"))
    dials = [word for dial in FEW["vl_icl_matching_mi"].split(",") for word in ("--dial", dial)]
    words = [sys.executable, "-m", "flamingo_eval", "sample", "vl_icl_matching_mi", "--seed", "3", *dials]
    environment = {**os.environ, "OMP_NUM_THREADS": "4", "PYTHONHASHSEED": "12"}
    subprocess.run([*words, "--out", str(tmp_path / "there")], check=True, env=environment, capture_output=True)
    assert files(tmp_path / "there") == here


@pytest.mark.parametrize("task", first_and_slow(sorted(DIALS)))
def test_another_seed_is_another_copy(task: str, tmp_path: Path) -> None:
    one, two = (files(written(task, seed, tmp_path / str(seed))) for seed in (1, 2))
    assert not {one[name] for name in one if name.endswith((".jpg", ".png"))} & set(two.values())
    assert load(task, tmp_path / "1").examples != load(task, tmp_path / "2").examples


def test_tasks_of_the_sample_have_fresh_copies_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(draws, "TRAIN_ROWS", 4)
    monkeypatch.setattr(draws, "EVAL_ROWS", 4)
    one, two = (files(written("okvqa", seed, tmp_path / str(seed))) for seed in (1, 2))
    assert not {one[name] for name in one if name.endswith(".jpg")} & set(two.values())
    assert len(load("okvqa", tmp_path / "1", "val").examples) == 4


def test_a_dial_changes_pictures_and_not_episodes(tmp_path: Path) -> None:
    plain = written("vl_icl_open_mi", 1, tmp_path / "plain")
    for dial in ("occlusion=0.5", "noise=0.3", "distractors=2"):
        other = written("vl_icl_open_mi", 1, tmp_path / dial, dial)
        assert (other / "open_mi/query.json").read_bytes() == (plain / "open_mi/query.json").read_bytes()
        name = "open_mi/query/0.jpg"
        assert (other / name).read_bytes() != (plain / name).read_bytes()


def test_similar_classes_are_of_one_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[list[int]] = []
    monkeypatch.setattr(
        objects, "_draw", lambda path, key, concept, concepts_shown, dials: drawn.append(concepts_shown)
    )
    copy_of("vl_icl_open_mi", "1,queries=20,classes=3,similarity=1").write(tmp_path / "alike")
    alike = sum(len({concepts()[c].kind for c in concepts_shown}) for concepts_shown in drawn) / len(drawn)
    drawn.clear()
    copy_of("vl_icl_open_mi", "1,queries=20,classes=3").write(tmp_path / "any")
    unlike = sum(len({concepts()[c].kind for c in concepts_shown}) for concepts_shown in drawn) / len(drawn)
    assert alike < 1.5 < 2.5 < unlike


@pytest.mark.slow
def test_counts_and_results_are_right(tmp_path: Path) -> None:
    copy_of("vl_icl_operator_induction", "5,pairs=30").write(tmp_path)
    rows = json.loads((tmp_path / "operator_induction/query.json").read_text())
    assert len(rows) == 90
    for row in rows:
        a, b, operator = row["id"].rsplit("_", 3)[1:]
        assert row["answer"] == {"+": int(a) + int(b), "-": int(a) - int(b), "x": int(a) * int(b)}[operator]
    support = json.loads((tmp_path / "operator_induction/support.json").read_text())
    assert len(support) == 70
    assert not {tuple(r["image"]) for r in rows} & {tuple(r["image"]) for r in support}
    solids, question, answer = clevr.scene_of(draws.rng_of("a test"), 8)
    attribute, value = question.split(": ")
    assert answer == sum(getattr(s, attribute) == value for s in solids) >= 1


@pytest.mark.slow
@pytest.mark.parametrize("task", sorted(t for t in DIALS if "clevr" in t or "operator" in t))
def test_the_pictures_of_a_copy_stand_beside_it_in_words(task: str, tmp_path: Path) -> None:
    written(task, 5, tmp_path)
    folder = task.removeprefix("vl_icl_")
    for part in ("query", "support"):
        rows = json.loads((tmp_path / folder / f"{part}.json").read_text())
        twins = json.loads((tmp_path / f"{folder}_text" / f"{part}.json").read_text())
        for row, twin in zip(rows, twins, strict=True):
            assert twin["id"] == row["id"].replace(folder, f"{folder}_text")
            assert {**row, "text": twin["text"], "id": 0} == {**twin, "image": row["image"], "id": 0}
            assert twin["answer"] == answer_in_words(twin)
    data = load_data(load_task(find_task(task)), tmp_path, ablation="images-in-words")
    check_ablation_of(data.task, "images-in-words", data.support)


def answer_in_words(twin: dict[str, Any]) -> object:
    """What a reader of the text answers."""
    if ": " in twin["question"]:
        value = twin["question"].split(": ")[1]
        return sum(value in solid.split() for solid in twin["text"].split(", "))
    a, b = map(int, twin["text"].split(" ? "))
    results = {"+": a + b, "-": a - b, "x": a * b}
    return results[twin["operator"]] if "operator" in twin else list(results.values())


def test_the_red_box_stands_where_the_record_says(tmp_path: Path) -> None:
    written("vl_icl_textocr", 1, tmp_path)
    for row in json.loads((tmp_path / "textocr/query.json").read_text()):
        pixels = np.asarray(Image.open(tmp_path / row["image"][0]))
        x, y, width, height = map(int, row["box"])
        red = (pixels == textocr.RED).all(axis=2)
        assert red[y - 1, x : x + width].all()
        assert red[y : y + height, x + width].all()


@pytest.mark.slow
def test_official_sizes_are_the_benchmarks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (clevr, objects, operators, textocr):
        monkeypatch.setattr(module, "save", lambda pixels, path: None)
    monkeypatch.setattr(objects, "_draw", lambda *_: None)
    for name in ("vl_icl_open_mi", "vl_icl_operator_induction", "vl_icl_matching_mi"):
        task = load_task(find_task(name))
        copy_of(name, "1,size=official").write(tmp_path)
        for split, rows in task.data.counts.items():
            assert len(load_split(task, tmp_path, split, media=False).examples) == rows, (name, split)


def test_a_run_names_its_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLAMINGO_EVAL_CACHE", str(tmp_path / "cache"))
    name = f"vl_icl_open_mi@sample:4,{FEW['vl_icl_open_mi']},size=small"
    questions, _ = load_questions([name], "flamingo")
    (job,) = plan_runs(questions, Choices(shots=(1,)))
    assert job.task_label == "vl_icl_open_mi@sample:4,queries=2,classes=3,pictures=2"
    assert len(job.data.queries.examples) == 2


def test_a_folder_with_a_copy_never_passes_for_the_benchmark(tmp_path: Path) -> None:
    written("vl_icl_clevr", 4, tmp_path, "noise=0.5")
    assert data_name(str(tmp_path), "vl_icl_clevr") == "sample:4,queries=3,support=3,noise=0.5"
    assert data_name(str(tmp_path), "vl_icl_textocr") == tmp_path.name


@pytest.mark.parametrize(
    ("task", "words", "message"),
    [
        ("vl_icl_clevr", "x", "'x' is not a seed"),
        ("vl_icl_clevr", "-1", "'-1' is not a seed"),
        ("vl_icl_clevr", "1,object=3", "has no dial 'object'. Did you mean 'objects'"),
        ("vl_icl_clevr", "1,objects=many", "expected an integer"),
        ("vl_icl_clevr", "1,objects=99", "objects must be at most 12, got 99"),
        ("vl_icl_clevr", "1,noise=2", "noise must be between 0 and 1"),
        ("vl_icl_clevr", "1,noise=nan", "noise must be between 0 and 1"),
        ("vl_icl_clevr", "1,noise", "'noise' is not a dial"),
        ("vl_icl_clevr", "1,noise=0,noise=1", "'noise=1' is a duplicate"),
        ("vl_icl_clevr", "1,size=huge", "size=huge is unknown"),
        ("vl_icl_open_mi", "1,ways=6", "ways must be at most 5, got 6"),
        ("okvqa", "1,noise=0", "okvqa has no dials"),
    ],
)
def test_what_names_no_copy_is_refused(task: str, words: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        copy_of(task, words)
    assert message in str(caught.value)


def test_a_task_that_cannot_be_drawn_says_which_can() -> None:
    with pytest.raises(DataError, match="this task has no fresh copies"):
        copy_of("mine", "1")
