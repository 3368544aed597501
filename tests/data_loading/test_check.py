from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image as PillowImage

from flamingo_eval.data.check import check_task, unreadable_media
from flamingo_eval.data.task_file import load_task
from flamingo_eval.errors import DataError
from flamingo_eval.records import Image
from tests.support.fixture_types import TaskNamed, Write


def jpeg(size: tuple[int, int] = (32, 24)) -> bytes:
    file = io.BytesIO()
    PillowImage.radial_gradient("L").resize(size).save(file, "JPEG")
    return file.getvalue()


def karpathy(*names: tuple[str, str]) -> dict[str, Any]:
    return {
        "images": [
            {"filename": n, "filepath": "val2014", "cocoid": i, "split": s, "sentences": [{"raw": "A kite."}]}
            for i, (n, s) in enumerate(names)
        ]
    }


def test_a_missing_and_a_cut_picture_are_counted_and_named(write: Write, task: TaskNamed, tmp_path: Path) -> None:
    write("dataset_coco.json", karpathy(("a.jpg", "test"), ("b.jpg", "test"), ("c.jpg", "test"), ("c.jpg", "val")))
    write("val2014/a.jpg", jpeg())
    cut = write("val2014/b.jpg", jpeg()[:-200])
    steps = []
    report = check_task(task("coco"), tmp_path, on_progress=lambda done, total: steps.append((done, total)))
    test = next(s for s in report.splits if s.name == "test")
    assert (test.rows, test.official, test.media, test.missing, test.unreadable) == (3, 5000, 3, 1, 1)
    val = next(s for s in report.splits if s.name == "val")
    assert (val.rows, val.missing) == (1, 1)
    texts = [str(p) for p in report.problems]
    assert any(t.startswith(f"{cut}: ") for t in texts)
    assert any("no examples" in t and "Expected pictures of train" in t for t in texts)
    assert f"{tmp_path / 'val2014/c.jpg'}: there is no such file." in texts
    assert steps == [(3, 3)]


def test_a_whole_download_has_no_problems(write: Write, task: TaskNamed, tmp_path: Path) -> None:
    write("dataset_coco.json", karpathy(("a.jpg", "test"), ("a.jpg", "train")))
    write("val2014/a.jpg", jpeg())
    assert check_task(task("coco"), tmp_path, "test").problems == ()
    assert [s.name for s in check_task(task("coco"), tmp_path).splits] == ["test", "train+restval", "train"]


def test_a_broken_split_does_not_hide_the_others(write: Write, task: TaskNamed, tmp_path: Path) -> None:
    write("v2_OpenEnded_mscoco_val2014_questions.json", '{"questions": [{"questio')
    write("v2_mscoco_val2014_annotations.json", {"annotations": []})
    question = {"question_id": 1, "image_id": 1, "question": "What?"}
    write("v2_OpenEnded_mscoco_test2015_questions.json", {"questions": [question]})
    report = check_task(task("vqav2"), tmp_path)
    assert {s.name: (s.rows, s.labelled) for s in report.splits} == {"val": (0, False), "test": (1, False)}
    assert "the file ends in the middle of a value" in str(report.problems[0])


def test_nothing_there_is_an_error(task: TaskNamed, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="files are missing"):
        check_task(task("vqav2"), tmp_path)


def test_unreadable_media_keeps_the_order(write: Write, tmp_path: Path) -> None:
    good, bad = write("a.jpg", jpeg()), write("b.jpg", b"no picture")
    problems = unreadable_media([Image(tmp_path / "c.jpg"), Image(good), Image(bad)])
    assert [p.file and p.file.name for p in problems] == ["c.jpg", "b.jpg"]


def test_questions_with_few_answers_are_a_note_and_no_problem(write: Write, tmp_path: Path) -> None:
    write("images/a.jpg", jpeg())
    rows = [{"id": n, "image": "a.jpg", "question": "q?", "answers": ["a cat"] * n} for n in (1, 10)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    (tmp_path / "t.yaml").write_text(
        "name: mine\ntitle: mine\nmodality: image\nmode: open-ended\nprompt: qa\nmetrics: [vqa_accuracy]\n"
        "data: {layout: rows, query: val, support: val, splits: {val: {rows: [rows.jsonl], images: [images]}}}\n"
    )
    report = check_task(load_task(tmp_path / "t.yaml"), tmp_path)
    assert not report.problems
    assert report.notes[0].startswith("val, vqa_accuracy: 1 of 2 queries have fewer than 4 references")
