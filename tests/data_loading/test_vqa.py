from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flamingo_eval.data.layouts import load_labelled, load_split, splits_on_disk
from flamingo_eval.errors import ConfigError, DataError, UsageError
from tests.support.fixture_types import TaskNamed, Write

QUESTIONS = "v2_OpenEnded_mscoco_val2014_questions.json"
ANNOTATIONS = "v2_mscoco_val2014_annotations.json"


def questions_file(*rows: tuple[int, int], subset: str = "val2014") -> dict[str, Any]:
    return {
        "data_subtype": subset,
        "questions": [{"question_id": q, "image_id": i, "question": f"What is {q}?"} for q, i in rows],
    }


def answers_file(*rows: tuple[int, int, Sequence[str]], subset: str = "val2014", **more: Any) -> dict[str, Any]:
    return {
        "data_subtype": subset,
        "annotations": [
            {
                "question_id": q,
                "image_id": i,
                "answer_type": "other",
                "question_type": "what is",
                "answers": [{"answer_id": n, "answer": a} | more for n, a in enumerate(answers, 1)],
            }
            for q, i, answers in rows
        ],
    }


def test_questions_and_annotations_are_joined_by_id(write: Write, task: TaskNamed, tmp_path: Path) -> None:
    write(QUESTIONS, questions_file((11, 1), (12, 1), (21, 2)))
    write(ANNOTATIONS, answers_file((21, 2, ["c", "d", "d"]), (11, 1, ["a"]), (12, 1, ["b"])))
    split = load_split(task("vqav2"), tmp_path, "val")
    assert [(e.id, e.references, e.answer) for e in split.examples] == [
        ("11", ("a",), "a"),
        ("12", ("b",), "b"),
        ("21", ("c", "d", "d"), "c"),
    ]
    first, second, third = split.examples
    assert first.fields == {"question": "What is 11?"}
    assert first.labels == {"answer_type": "other", "question_type": "what is"}
    assert first.media_id == second.media_id != third.media_id
    assert [path.name for path in split.files] == [QUESTIONS, ANNOTATIONS]
    assert split.labelled


@pytest.mark.parametrize(
    "folder", ["val2014", "images/val2014", "Images/mscoco/val2014", "images", "."], ids=lambda f: f.replace("/", "_")
)
def test_pictures_are_found_in_nested_and_flat_folders(
    write: Write, task: TaskNamed, tmp_path: Path, folder: str
) -> None:
    write(QUESTIONS, questions_file((11, 42)))
    write(ANNOTATIONS, answers_file((11, 42, ["a"])))
    picture = write(f"{folder}/COCO_val2014_000000000042.jpg")
    (example,) = load_split(task("vqav2"), tmp_path, "val").examples
    assert example.media[0].path.samefile(picture)


def test_a_picture_that_is_nowhere_gets_the_path_where_it_was_expected(
    write: Write, task: TaskNamed, tmp_path: Path
) -> None:
    write(QUESTIONS, questions_file((11, 42)))
    write(ANNOTATIONS, answers_file((11, 42, ["a"])))
    write("val2014/other.jpg")
    (example,) = load_split(task("vqav2"), tmp_path, "val").examples
    assert example.media[0].path == tmp_path / "val2014/COCO_val2014_000000000042.jpg"
    (example,) = load_split(task("vqav2"), tmp_path, "val", media=False).examples
    assert example.media == ()


def test_the_answer_shown_can_be_the_most_common_one(write: Write, task: TaskNamed, tmp_path: Path) -> None:
    write(QUESTIONS, questions_file((11, 42)))
    write(ANNOTATIONS, answers_file((11, 42, ["a", "b", "b"])))
    vqav2 = task("vqav2")
    for choice, answer in {"first": "a", "most_common": "b"}.items():
        chosen = replace(vqav2, data=replace(vqav2.data, options={"demonstration": choice}))
        assert load_split(chosen, tmp_path, "val").examples[0].answer == answer
    wrong = replace(vqav2, data=replace(vqav2.data, options={"demonstration": "last"}))
    with pytest.raises(ConfigError, match="'last' is not first or most_common"):
        load_split(wrong, tmp_path, "val")


def test_annotations_of_another_split_are_named_once(write: Write, task: TaskNamed, tmp_path: Path) -> None:
    write(QUESTIONS, questions_file((11, 1), (12, 1)))
    write(ANNOTATIONS, answers_file((91, 1, ["a"]), (92, 1, ["a"]), subset="train2014"))
    with pytest.raises(DataError) as caught:
        load_split(task("vqav2"), tmp_path, "val")
    assert [str(p) for p in caught.value.problems] == [
        "data_subtype: this file is of 'train2014'. Split 'val' needs val2014.",
        f"annotations: no question_id is also in {QUESTIONS}: questions and annotations are of different splits. "
        "Split 'val' needs both of the same split.",
    ]


def test_all_problems_of_both_files_are_raised_at_once(write: Write, task: TaskNamed, tmp_path: Path) -> None:
    write(QUESTIONS, questions_file((11, 1), (11, 1), (12, 1), (13, 3)))
    write(ANNOTATIONS, answers_file((11, 1, ["a"]), (13, 4, []), (14, 4, ["a"])))
    with pytest.raises(DataError) as caught:
        load_split(task("vqav2"), tmp_path, "val")
    text = str(caught.value)
    assert "vqav2, split 'val': 4 problems in 2 files" in text
    assert f"{QUESTIONS}: questions[1].question_id: duplicate id 11; first at questions[0]." in text
    assert f"{QUESTIONS}: questions[2].question_id: question 12 has no annotation in {ANNOTATIONS}." in text
    assert f"{ANNOTATIONS}: annotations[1].image_id: question 13 is about picture 3." in text
    assert f"{ANNOTATIONS}: annotations[1].answers: is empty." in text


def test_missing_files_are_named_with_what_was_tried_and_what_is_there(
    write: Write, task: TaskNamed, tmp_path: Path
) -> None:
    write("notes.txt", "hello")
    with pytest.raises(DataError) as caught:
        load_split(task("vqav2"), tmp_path, "val")
    text = str(caught.value)
    assert f"no questions file: tried {QUESTIONS}, Questions/{QUESTIONS} in {tmp_path}." in text
    assert "no annotations file" in text
    assert "There: notes.txt." in text
    assert "visualqa.org" in text
    with pytest.raises(DataError, match="does not exist"):
        load_split(task("vqav2"), tmp_path / "nowhere", "val")


def test_an_unknown_split_is_a_usage_error(task: TaskNamed, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"vqav2 has no split 'vall'. Did you mean 'val'"):
        load_split(task("vqav2"), tmp_path, "vall")


def test_test_splits_have_no_answers_and_score_takes_the_labelled_one(
    write: Write, task: TaskNamed, tmp_path: Path
) -> None:
    vqav2 = task("vqav2")
    write("v2_OpenEnded_mscoco_test-dev2015_questions.json", questions_file((11, 1), subset="test-dev2015"))
    split = load_split(vqav2, tmp_path, "test-dev")
    assert not split.labelled
    assert split.examples[0].references == ()
    assert split.examples[0].media_id == "COCO_test2015_000000000001.jpg"
    with pytest.raises(DataError, match="the answers of test-dev are on an evaluation server"):
        load_labelled(vqav2, tmp_path)
    write("v2_OpenEnded_mscoco_train2014_questions.json", questions_file((11, 1), subset="train2014"))
    write("v2_mscoco_train2014_annotations.json", answers_file((11, 1, ["a"]), subset="train2014"))
    assert splits_on_disk(vqav2, tmp_path) == ("test-dev", "train")
    assert load_labelled(vqav2, tmp_path).name == "train"
    write(QUESTIONS, questions_file((11, 1)))
    write(ANNOTATIONS, answers_file((11, 1, ["a"])))
    assert load_labelled(vqav2, tmp_path).name == "val"


def test_a_folder_named_like_the_task_is_the_root(write: Write, task: TaskNamed, tmp_path: Path) -> None:
    write(f"vqav2/{QUESTIONS}", questions_file((11, 1)))
    write(f"vqav2/{ANNOTATIONS}", answers_file((11, 1, ["a"])))
    assert load_labelled(task("vqav2"), tmp_path).files[0].parent == tmp_path / "vqav2"


def test_unknown_roles_and_options_of_a_task_are_named(task: TaskNamed, tmp_path: Path) -> None:
    vqav2 = task("vqav2")
    wrong = replace(
        vqav2,
        data=replace(vqav2.data, query="vall", options={"demo": "x"}, splits={"val": {"question": ("a.json",)}}),
    )
    with pytest.raises(ConfigError) as caught:
        load_split(wrong, tmp_path, "val")
    text = str(caught.value)
    assert "layout 'vqa' has no role 'question'. Did you mean 'questions'?" in text
    assert "layout 'vqa' has no option 'demo'." in text
    assert "data.query: split 'vall' is not among data.splits (val)." in text
