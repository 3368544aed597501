"""predictions.py: every way in which a predictions file can be wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from flamingo_eval.config.names import find_task
from flamingo_eval.data.task_file import load_task
from flamingo_eval.errors import PredictionError
from flamingo_eval.records import Example, Split
from flamingo_eval.runs.predictions import read_predictions

SPLIT = Split("val", tuple(Example(str(n), (), str(n), candidates=("no", "yes")) for n in (10, 11)), ())
VQA, MEMES = load_task(find_task("vqav2")), load_task(find_task("hateful_memes"))


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "p.jsonl"
    path.write_text(text, encoding="utf-8")
    return path


def test_predictions_come_in_the_splits_order(tmp_path: Path) -> None:
    path = write(tmp_path, '{"id": 11, "prediction": ""}\n\n{"id": "10", "prediction": "a\\u2028b"}\n')
    predictions, examples = read_predictions(path, VQA, SPLIT)
    assert [(p.id, p.text) for p in predictions] == [("10", "a\u2028b"), ("11", "")]
    assert [e.id for e in examples] == ["10", "11"]


def test_scores(tmp_path: Path) -> None:
    path = write(tmp_path, '{"id": "10", "scores": [-1, 0.5]}\n{"id": "11", "scores": [0, 0]}\n')
    assert read_predictions(path, MEMES, SPLIT)[0][0].scores == (-1.0, 0.5)


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ('{"id": "10", "prediction": "x"', "line 1: not JSON"),
        ("[]", "line 1: expected an object"),
        ('{"id": "10"}', "line 1: key 'prediction' is missing"),
        ('{"prediction": "x"}', "line 1: key 'id' is missing"),
        ('{"id": "10", "predicton": "x"}', "unknown key 'predicton'. Did you mean 'prediction'?"),
        ('{"id": "12", "prediction": "x"}', "unknown id '12': split 'val' has no such query."),
        ('{"id": 1.5, "prediction": "x"}', "id must be a text"),
        ('{"id": "10", "prediction": 3}', "prediction of '10' must be a text"),
        (
            '{"id": "10", "prediction": "x"}\n{"id": "10", "prediction": "y"}',
            "line 2: id '10' stands here a second time",
        ),
        ('{"id": "10", "prediction": "x"}', "1 of 2 queries of split 'val' have no prediction: '11'"),
        ("[" * 100_000, "not JSON"),
    ],
)
def test_open_ended_problems(tmp_path: Path, line: str, what: str) -> None:
    with pytest.raises(PredictionError) as caught:
        read_predictions(write(tmp_path, line), VQA, SPLIT)
    assert what in str(caught.value)


@pytest.mark.parametrize(
    ("scores", "what"),
    [
        ("[1]", "'10' has 1 scores, but 2 candidates"),
        ('["a", 1]', "must be a list of numbers"),
        ("[NaN, 1]", "must be a list of numbers"),
        ("3", "must be a list of numbers"),
        ("[true, false]", "must be a list of numbers"),
    ],
)
def test_close_ended_problems(tmp_path: Path, scores: str, what: str) -> None:
    with pytest.raises(PredictionError) as caught:
        read_predictions(write(tmp_path, f'{{"id": "10", "scores": {scores}}}'), MEMES, SPLIT)
    assert what in str(caught.value)


def test_problems_come_together(tmp_path: Path) -> None:
    with pytest.raises(PredictionError) as caught:
        read_predictions(write(tmp_path, "x\ny\n"), VQA, SPLIT)
    assert len(caught.value.problems) == 2


def test_files_that_are_no_predictions(tmp_path: Path) -> None:
    with pytest.raises(PredictionError, match="the file is empty"):
        read_predictions(write(tmp_path, "\n \n"), VQA, SPLIT)
    with pytest.raises(PredictionError, match="cannot be read"):
        read_predictions(tmp_path / "nothing", VQA, SPLIT)
    (tmp_path / "b").write_bytes(b"\xff")
    with pytest.raises(PredictionError, match="not UTF-8"):
        read_predictions(tmp_path / "b", VQA, SPLIT)
