from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from flamingo_eval.data.layouts import load_split
from flamingo_eval.errors import DataError
from tests.support.fixture_types import TaskNamed, Write

QUESTIONS = ["is it sunny", "how many goats"]
ANSWERS = ["yes", "no", "can't tell"]


def dialog(n: int, rounds: Sequence[tuple[int, int]]) -> dict[str, Any]:
    return {
        "image_id": n,
        "caption": "a goat on a wall",
        "dialog": [{"question": q, "answer": a, "answer_options": [2, 0, 1], "gt_index": 1} for q, a in rounds],
    }


def file(split: str, *dialogs: dict[str, Any]) -> dict[str, Any]:
    return {
        "split": split,
        "version": "1.0",
        "data": {"questions": QUESTIONS, "answers": ANSWERS, "dialogs": [*dialogs]},
    }


DENSE = "visdial_1.0_val_dense_annotations.json"


def test_a_query_is_the_densely_annotated_round_with_its_true_history(
    write: Write, task: TaskNamed, tmp_path: Path
) -> None:
    write("visdial_1.0_val.json", file("val2018", dialog(5, [(1, 2)]), dialog(7, [(0, 0), (1, 2), (0, 1)])))
    dense = [
        {"image_id": 7, "round_id": 2, "gt_relevance": [0.0, 1, 0.4]},
        {"image_id": 5, "round_id": 1, "relevance": [1, 0, 0]},
    ]
    write(DENSE, dense)
    split = load_split(task("visdial"), tmp_path, "val")
    first, second = split.examples
    assert (first.id, second.id) == ("5", "7")
    assert second.fields == {
        "caption": "a goat on a wall",
        "rounds": (("is it sunny?", "yes"),),
        "question": "how many goats?",
    }
    assert second.candidates == ("can't tell", "yes", "no")
    assert second.labels == {"relevance": (0.0, 1.0, 0.4), "round_id": 2, "gt_index": 1}
    assert (first.fields["rounds"], first.labels["relevance"]) == ((), (1.0, 0.0, 0.0))
    assert first.media[0].path.name == "VisualDialog_val2018_000000000005.jpg"


def test_a_demonstration_is_the_whole_dialogue(write: Write, task: TaskNamed, tmp_path: Path) -> None:
    write("visdial_1.0_train.json", file("train", dialog(7, [(0, 0), (1, 2)])))
    picture = write("val2014/COCO_val2014_000000000007.jpg")
    (example,) = load_split(task("visdial"), tmp_path, "train").examples
    assert example.fields["rounds"] == (("is it sunny?", "yes"), ("how many goats?", "can't tell"))
    assert (example.candidates, example.media[0].path) == ((), picture)


def test_test_dialogues_end_in_the_round_to_answer(write: Write, task: TaskNamed, tmp_path: Path) -> None:
    last = {"question": 1, "answer_options": [0, 1]}
    value = file("test2018", dialog(9, [(0, 0)]))
    value["data"]["dialogs"][0]["dialog"].append(last)
    write("visdial_1.0_test.json", value)
    split = load_split(task("visdial"), tmp_path, "test")
    (example,) = split.examples
    assert not split.labelled
    assert (example.fields["question"], example.candidates, example.target) == ("how many goats?", ("yes", "no"), None)
    assert example.labels == {"round_id": 2}


def test_everything_that_does_not_fit_is_named(write: Write, task: TaskNamed, tmp_path: Path) -> None:
    write("visdial_1.0_val.json", file("val2018", dialog(5, [(9, 0)]), dialog(6, [(0, 0)]), dialog(8, [(0, 0)])))
    dense = [
        {"image_id": 5, "round_id": 1, "gt_relevance": [1.0]},
        {"image_id": 6, "round_id": 4, "gt_relevance": [2.0]},
    ]
    write(DENSE, [*dense, {"image_id": 4, "round_id": 1, "gt_relevance": [1.0]}])
    with pytest.raises(DataError) as caught:
        load_split(task("visdial"), tmp_path, "val")
    text = str(caught.value)
    for part in [
        "question: 9 is not an index of the file's questions (0 to 1).",
        "1 relevances for 3 candidates in round 1.",
        "gt_relevance: expected a list of numbers from 0 to 1.",
        "round 4 is annotated, but there are 1.",
        "dialogue 8 has no dense annotation.",
        "there is no dialogue about picture 4.",
    ]:
        assert part in text
