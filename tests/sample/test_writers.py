from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from PIL import Image

from flamingo_eval.data.layouts import load_split
from flamingo_eval.data.task_file import load_task
from flamingo_eval.errors import DataError
from flamingo_eval.records import Split
from flamingo_eval.sample import sample_root
from flamingo_eval.sample.benchmarks import fastbind, table, writers
from flamingo_eval.sample.benchmarks.vqav2_coco import CONVENTIONS, EVAL_PICTURES, TRAIN_PICTURES, draw_part

TASKS = Path(__file__).parents[2] / "tasks"


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("FLAMINGO_EVAL_CACHE", str(tmp_path))
    monkeypatch.setattr(writers, "PARTS", {"train2014": ("train", 6, 1), "val2014": ("eval", 4, 101)})
    for name, value in {"POOLS": 2, "VIEWS": 4, "SHOT_VIEWS": 2, "QUERIES": 2, "OBJECTS": 8}.items():
        monkeypatch.setattr(fastbind, name, value)
    return tmp_path


def load(task_name: str, split: str | None = None) -> Split:
    task = load_task(TASKS / f"{task_name}.yaml")
    return load_split(task, sample_root(task_name), split or task.data.query)


def test_vqav2_has_ten_answers_and_readable_pictures(small: Path) -> None:
    split = load("vqav2")
    assert len(split.examples) == 4
    assert all(len(e.references) == 10 for e in split.examples)
    with Image.open(split.examples[0].media[0].path) as picture:
        assert picture.size == (128, 128)
    assert len(load("vqav2", "train").examples) == 6


def test_coco_has_five_captions(small: Path) -> None:
    assert all(len(e.references) == 5 for e in load("coco").examples)
    assert (sample_root("coco") / "annotations" / "captions_val2014.json").is_file()


def test_fastbind_shots_come_from_the_querys_own_pool(small: Path) -> None:
    queries, support = load("fastbind", "unseen-5"), load("fastbind", "support")
    for query in queries.examples:
        pool = [e for e in support.examples if e.labels["pool"] == query.labels["pool"]]
        assert len({e.answer for e in pool}) == 5
        assert query.answer in {e.answer for e in pool}
        assert query.media_id not in {e.media_id for e in pool}


def test_rendered_once_and_nothing_half_done_is_left(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = sample_root("coco")
    monkeypatch.setattr(table, "build", lambda task, folder: pytest.fail("rendered again"))
    assert sample_root("coco") == root
    assert [p.name for p in root.parent.iterdir()] == ["coco"]


def test_a_render_that_fails_leaves_nothing(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(task: str, folder: Path) -> None:
        (folder / "half").write_text("x")
        raise KeyboardInterrupt

    monkeypatch.setattr(table, "build", fail)
    with pytest.raises(KeyboardInterrupt):
        sample_root("vqav2")
    assert list((small / "sample").rglob("*half*")) == []


def test_two_processes_may_render_at_once(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other one is done first: its folder is taken, ours goes."""
    build = table.build

    def overtaken(task: str, folder: Path) -> None:
        build(task, folder)
        build(task, folder.parent / task)

    monkeypatch.setattr(table, "build", overtaken)
    assert [p.name for p in sample_root("coco").parent.iterdir()] == ["coco"]


def test_unknown_task_is_named(small: Path) -> None:
    with pytest.raises(DataError, match="nope: this task has no embedded sample"):
        sample_root("nope")


def test_parts_share_no_scene_and_are_large_enough() -> None:
    assert TRAIN_PICTURES >= 2048
    assert EVAL_PICTURES >= 200
    keys = [{p.scene.key for p in draw_part(part, 50, 1)} for part in ("train", "eval")]
    assert not keys[0] & keys[1]


def test_annotators_mostly_agree_on_the_conventions_answer() -> None:
    pictures = draw_part("train", 200, 1)
    share = sum(p.answers.count(p.asked.answer) for p in pictures) / 2000
    assert 0.88 < share < 0.97
    assert {p.asked.answer for p in pictures if p.asked.type == "where"} == set(CONVENTIONS.places.values())


def test_texts_of_this_sample_version_are_pinned() -> None:
    """Another hash means another sample: raise SAMPLE_VERSION, and measure the checkpoint again."""
    pictures = [*draw_part("eval", 60, 100_001), *draw_part("train", 60, 1)]
    assert hashlib.sha256(repr(pictures).encode()).hexdigest()[:16] == "ccbf2b0b374afef8"
