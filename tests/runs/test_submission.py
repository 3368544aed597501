from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from flamingo_eval.errors import PredictionError, UsageError
from flamingo_eval.records import Example, Prediction, Split
from flamingo_eval.runs.submission import ranks, write_submission
from tests.support.fixture_types import TaskNamed


def split(*ids: str, **labels: str | int) -> Split:
    examples = [Example(id, (), id, candidates=("a", "b", "c"), labels=labels) for id in ids]
    return Split("test", tuple(examples), (), labelled=False)


def written(path: Path) -> Any:
    return json.loads(path.read_text())


def test_vqa_and_vizwiz_and_captions(task: TaskNamed, tmp_path: Path) -> None:
    predictions = [Prediction("12", ""), Prediction("7", "café")]
    path = write_submission(task("vqav2"), split("7", "12"), predictions, tmp_path / "a/vqa.json")
    assert written(path) == [{"question_id": 7, "answer": "café"}, {"question_id": 12, "answer": ""}]
    path = write_submission(
        task("vqav2"), split("7"), predictions[1:], tmp_path / "a/vqa.json", unanswered=split("6", "7")
    )
    assert written(path) == [{"question_id": 7, "answer": "café"}, {"question_id": 6, "answer": ""}]
    path = write_submission(task("vizwiz"), split("v.jpg"), [Prediction("v.jpg", "cat")], tmp_path / "vizwiz.json")
    assert written(path) == [{"image": "v.jpg", "answer": "cat"}]
    path = write_submission(task("nocaps"), split("7"), [Prediction("7", "A cat.")], tmp_path / "nocaps.json")
    assert written(path) == [{"image_id": 7, "caption": "A cat."}]
    assert [p.name for p in sorted(tmp_path.iterdir())] == ["a", "nocaps.json", "vizwiz.json"]


def test_visdial_wants_the_rank_of_each_option(task: TaskNamed, tmp_path: Path) -> None:
    assert ranks([0.1, 0.9, 0.9, 0.5]) == [4, 1, 2, 3]
    predictions = [Prediction("7", scores=(-3.0, -1.0, -2.0))]
    path = write_submission(task("visdial"), split("7", round_id=4), predictions, tmp_path / "a.json")
    assert written(path) == [{"image_id": 7, "round_id": 4, "ranks": [3, 1, 2]}]


def test_star_is_grouped_by_question_type(task: TaskNamed, tmp_path: Path) -> None:
    id = "Sequence_T1_5"
    predictions = [Prediction(id, scores=(-3.0, -1.0, -1.0))]
    path = write_submission(task("star"), split(id, question_type="Sequence"), predictions, tmp_path / "a.json")
    answer = [{"question_id": id, "answer": 1}]
    assert written(path) == {"Interaction": [], "Sequence": answer, "Prediction": [], "Feasibility": []}


def test_nothing_is_written_unless_every_query_is_answered(task: TaskNamed, tmp_path: Path) -> None:
    with pytest.raises(PredictionError) as caught:
        write_submission(task("vqav2"), split("7", "8"), [Prediction("9", "x"), Prediction("8")], tmp_path / "a.json")
    assert [str(p) for p in caught.value.problems] == [
        "'9' is not in split 'test'.",
        "'7' has no prediction.",
        "'8' has no text.",
    ]
    with pytest.raises(PredictionError, match="'7' needs 3 scores"):
        write_submission(task("visdial"), split("7"), [Prediction("7", scores=(1.0,))], tmp_path / "a.json")
    with pytest.raises(UsageError, match="no known format of an evaluation server"):
        write_submission(task("coco"), split("7"), [Prediction("7", "x")], tmp_path / "a.json")
    assert not list(tmp_path.iterdir())
