"""predictions.py: every way in which a predictions file can be wrong."""

from __future__ import annotations

import csv
import gzip
import io
import json
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas
import pytest

from flamingo_eval.config.names import find_task
from flamingo_eval.data.task_file import load_task
from flamingo_eval.errors import PredictionError
from flamingo_eval.records import Best, Example, Output, Prediction, Split
from flamingo_eval.runs.folder import output_line
from flamingo_eval.runs.predictions import read_predictions
from flamingo_eval.runs.submission import FORMATS, write_submission
from tests.support.metrics_golden import case

SPLIT = Split("val", tuple(Example(str(n), (), str(n), candidates=("no", "yes")) for n in (10, 11)), ())
VQA, MEMES = load_task(find_task("vqav2")), load_task(find_task("hateful_memes"))


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "p.jsonl"
    path.write_text(text, encoding="utf-8")
    return path


def test_predictions_come_in_the_splits_order(tmp_path: Path) -> None:
    path = write(tmp_path, '{"id": 11, "prediction": ""}\n\n{"id": "10", "prediction": "a\\u2028b"}\n')
    read = read_predictions(path, VQA, SPLIT)
    assert [(p.id, p.text) for p in read.predictions] == [("10", "a\u2028b"), ("11", "")]
    assert [e.id for e in read.examples] == ["10", "11"]
    assert read.form == "JSON lines: ids from 'id', answers from 'prediction'"


def test_scores(tmp_path: Path) -> None:
    path = write(tmp_path, '{"id": "10", "scores": [-1, 0.5]}\n{"id": "11", "scores": [0, 0]}\n')
    assert read_predictions(path, MEMES, SPLIT).predictions[0].scores == (-1.0, 0.5)


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ('{"id": "10", "prediction": "x"', "line 1: not JSON"),
        ("[]", "the list is empty"),
        ("{}", "the object is empty"),
        ("[3]", "entry 1: expected an object"),
        ('{"id": "10", "prediction": "x"}\n3', "line 2: expected an object"),
        ('{"id": "10"}', "line 1: no key has an answer"),
        (
            '{"prediction": "x", "n": [1]}\n{"n": [2]}',
            "line 1: no key has the queries' ids; the keys are 'prediction'",
        ),
        ('{"id": "10", "predicton": "x"}', "the keys are 'id', 'predicton'. Did you mean 'prediction'?"),
        ('{"id": "10", "prediction": "x"}\n{"id": "11", "caption": "x"}', "line 2: key 'prediction' is missing"),
        ('{"id": "12", "prediction": "x"}', "unknown id '12': split 'val' has no such query."),
        ('{"id": 1.5, "prediction": "x"}', "neither text nor an integer"),
        ('{"id": "10", "prediction": 3}', "prediction of '10' must be a text"),
        (
            '{"id": "10", "prediction": "x"}\n{"id": "10", "prediction": "y"}',
            "line 2: duplicate id '10': line 1 has another answer",
        ),
        ('{"id": "10", "prediction": "x"}', "1 of 2 queries of split 'val' have no prediction: '11'"),
        ("[" * 100_000, "not JSON"),
        ('[{"id": "10", "answer": null}]', "entry 1: 'answer' is null, and no other entry has an answer"),
    ],
)
def test_open_ended_problems(tmp_path: Path, line: str, what: str) -> None:
    with pytest.raises(PredictionError) as caught:
        read_predictions(write(tmp_path, line), VQA, SPLIT)
    assert what in str(caught.value)


@pytest.mark.parametrize(
    ("scores", "what"),
    [
        ("[1]", "has 1 scores, but there are 2 candidates"),
        ('["a", 1]', "must be a list of numbers"),
        ("[NaN, 1]", "must be a list of numbers"),
        ("3", "must be a list of numbers"),
        ('[1e999, "x"]', "must be a list of numbers"),
        ("[true, false]", "must be a list of numbers"),
        ('[-1, [1, "a", null]]', "must be a list of numbers"),
        ("[-1, [1, 2]]", "must be a list of numbers"),
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
    packed = gzip.compress(b'{"id": "10", "prediction": "x"}')
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("p.json", "[]")
    table = io.BytesIO()
    pandas.DataFrame({"id": ["10"]}).to_parquet(table)
    kinds = {"gzip": packed, "a zip archive or an Excel file": archive.getvalue(), "a Parquet table": table.getvalue()}
    for what, data in kinds.items():
        (tmp_path / "b").write_bytes(data)
        with pytest.raises(PredictionError, match=what):
            read_predictions(tmp_path / "b", VQA, SPLIT)


def test_an_object_of_ids_and_answers_may_stand_under_a_name(tmp_path: Path) -> None:
    path = write(tmp_path, json.dumps({"model": "m", "predictions": {"11": "b", "10": "a"}}))
    read = read_predictions(path, VQA, SPLIT)
    assert [p.text for p in read.predictions] == ["a", "b"]
    assert "under 'predictions'" in read.form


GOLDEN = case("vqav2")
GOLDEN_SPLIT = Split("val", GOLDEN.examples, ())
Pairs = Sequence[tuple[str, str]]


def test_two_columns_of_one_name_must_agree(tmp_path: Path) -> None:
    id = GOLDEN.predictions[0].id
    same = write(tmp_path, f"id,prediction,prediction\n{id},a,a\n")
    assert len(read_predictions(same, VQA, GOLDEN_SPLIT, partial=True).predictions) == 1
    other = write(tmp_path, f"id,prediction,prediction\n{id},a,b\n")
    with pytest.raises(PredictionError, match="line 2: two columns 'prediction', with different cells"):
        read_predictions(other, VQA, GOLDEN_SPLIT, partial=True)


def _table(separator: str) -> Callable[[Pairs], str]:
    def text(pairs: Pairs) -> str:
        out = io.StringIO(newline="")
        writer = csv.writer(out, delimiter=separator)
        writer.writerows([("question_id", "answer"), *pairs])
        return out.getvalue()

    return text


def _json_lines(row: Callable[[int, str, str], dict[str, Any]]) -> Callable[[Pairs], str]:
    return lambda pairs: "".join(json.dumps(row(i, id, text)) + "\n" for i, (id, text) in enumerate(pairs))


FORMS: dict[str, Callable[[Pairs], str]] = {
    "results list": lambda pairs: json.dumps([{"question_id": int(i), "answer": t} for i, t in pairs]),
    "results list, indented": lambda pairs: json.dumps([{"question_id": i, "answer": t} for i, t in pairs], indent=2),
    "under a key": lambda pairs: json.dumps({"model": "x", "results": [{"id": i, "pred": t} for i, t in pairs]}),
    "map": lambda pairs: json.dumps(dict(pairs)),
    "csv": _table(","),
    "tabs": _table("\t"),
    "semicolons": _table(";"),
    "extra keys": _json_lines(
        lambda i, query, t: {"shots": 4, "id": int(query), "prediction": t, "answer": "the right one"}
    ),
    "harness log": _json_lines(
        lambda i, query, t: {
            "doc_id": i,
            "doc": {"question_id": int(query), "image_id": 9, "answer": "right", "question": "?"},
            "target": "right",
            "resps": [[f" {t}"]],
            "filtered_resps": [t],
        }
    ),
    "harness log in one object": lambda pairs: json.dumps(
        {"args": {}, "logs": [{"doc_id": 7, "doc": {"question_id": i}, "filtered_resps": [t]} for i, t in pairs]}
    ),
    "answers of a chat model": _json_lines(
        lambda i, query, t: {"question_id": int(query), "prompt": "?", "text": t, "answer_id": f"a{i}", "metadata": {}}
    ),
    "outputs of a run": lambda pairs: "".join(
        output_line(Output(i, ("1",), 5, raw=f"{t} Question", prediction=t)) for i, t in pairs
    ),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_every_form_holds_the_same_answers(tmp_path: Path, form: str, mark: str) -> None:
    pairs = [(p.id, p.text or "") for p in reversed(GOLDEN.predictions)]
    read = read_predictions(write(tmp_path, mark + FORMS[form](pairs)), VQA, GOLDEN_SPLIT)
    assert read.predictions == GOLDEN.predictions
    assert (read.partial, read.passed_over) == ("", 0)
    assert read.form


@pytest.mark.parametrize("form", FORMS)
def test_missing_answers_are_counted_or_scored_as_a_part(tmp_path: Path, form: str) -> None:
    path = write(tmp_path, FORMS[form]([(p.id, p.text or "") for p in GOLDEN.predictions[:30]]))
    with pytest.raises(PredictionError, match=r"41 of 71 queries of split 'val' have no prediction.*--partial"):
        read_predictions(path, VQA, GOLDEN_SPLIT)
    read = read_predictions(path, VQA, GOLDEN_SPLIT, partial=True)
    assert read.predictions == GOLDEN.predictions[:30]
    assert read.partial == "partial: 30 of 71 queries are answered and scored"


def test_answers_to_other_queries_are_passed_over_where_nothing_is_missing(tmp_path: Path) -> None:
    path = write(tmp_path, json.dumps({"10": "a", "11": "b", "999": "c"}))
    read = read_predictions(path, VQA, SPLIT)
    assert (len(read.predictions), read.passed_over) == (2, 1)
    assert "1 answers to other queries are skipped" in read.form
    assert len(read_predictions(path, VQA, SPLIT, queries=["11"]).predictions) == 1


def test_queries_that_failed_in_a_run_are_missing(tmp_path: Path) -> None:
    lines = [Output("10", (), 3, prediction="x"), Output("11", (), 3, error="the picture is missing")]
    path = write(tmp_path, "".join(map(output_line, lines)))
    with pytest.raises(PredictionError, match="1 of them failed in the run"):
        read_predictions(path, VQA, SPLIT)
    assert len(read_predictions(path, VQA, SPLIT, partial=True).predictions) == 1


def test_names_of_pictures_stand_for_their_numbers(tmp_path: Path) -> None:
    split = Split("test", tuple(Example(i, (), i) for i in ("391895", "7")), ())
    names = ["COCO_val2014_000000391895.jpg", "000000000007"]
    path = write(tmp_path, json.dumps([{"image_id": n, "caption": "a cat"} for n in names]))
    assert [p.id for p in read_predictions(path, VQA, split).predictions] == ["391895", "7"]


SUBMITTED = ("vqav2", "textvqa", "vizwiz", "nocaps", "textcaps", "gqa", "visdial", "star")


@pytest.mark.parametrize("task", SUBMITTED)
def test_every_submission_that_a_run_writes_is_read_back(tmp_path: Path, task: str) -> None:
    spec, id = load_task(find_task(task)), "7"
    labels = {"round_id": 3, "question_type": "Sequence"}
    examples = tuple(Example(i, (), i, candidates=("a", "b", "c"), labels=labels) for i in (id, "8"))
    split = Split("test", examples, (), labelled=False)
    if spec.mode == "open-ended":
        answers = [Prediction(id, "a café"), Prediction("8", "")]
    else:
        answers = [Prediction(id, scores=(-3.0, -1.0, -2.0)), Prediction("8", scores=(0.0, -1.0, -2.0))]
    path = write_submission(spec, split, answers, tmp_path / "submission.json")
    read = read_predictions(path, spec, split).predictions
    assert [(p.id, p.text, p.chosen) for p in read] == [(p.id, p.text, p.chosen) for p in answers]
    assert spec.data.layout in FORMATS


CHOICES = Split("val", tuple(Example(str(n), (), str(n), candidates=("a cat", "a dog", "2")) for n in (10, 11)), ())
STAR = load_task(find_task("star"))


@pytest.mark.parametrize(
    ("answers", "form"),
    [
        (["a dog", "A cat."], "text"),
        (["B", "(a)"], "letter"),
        ([1, 0], "index"),
        (["1", "0"], "index"),
        ([[["B"]], ["A"]], "letter"),
    ],
)
def test_the_best_candidate_as_text_letter_or_index(tmp_path: Path, answers: list[Any], form: str) -> None:
    path = write(tmp_path, json.dumps([{"id": i, "answer": a} for i, a in zip((10, 11), answers, strict=True)]))
    read = read_predictions(path, STAR, CHOICES)
    assert [p.best for p in read.predictions] == [Best(1, 0.0), Best(0, 0.0)]
    assert f"the best candidate's {form}" in read.form


@pytest.mark.parametrize(
    ("answers", "what"),
    [
        (["2", "2"], None),
        (["a bird", "a cat"], "entry 1: answer of '10' is not the text of one candidate: 'a bird'"),
        ([3, 0], "answer of '10' is not the index of one candidate: '3'"),
        (["D", "A"], "answer of '10' is not the letter"),
    ],
)
def test_choices_that_cannot_be_read(tmp_path: Path, answers: list[Any], what: str | None) -> None:
    path = write(tmp_path, json.dumps([{"id": i, "answer": a} for i, a in zip((10, 11), answers, strict=True)]))
    if what is None:  # the text `2` and the index 2 are the same candidate
        assert read_predictions(path, STAR, CHOICES).predictions[0].best == Best(2, 0.0)
        return
    with pytest.raises(PredictionError) as caught:
        read_predictions(path, STAR, CHOICES)
    assert what in str(caught.value)


def test_an_answer_that_is_one_candidates_text_and_anothers_index_is_an_error(tmp_path: Path) -> None:
    split = replace(CHOICES, examples=tuple(replace(e, candidates=("1", "0", "2")) for e in CHOICES.examples))
    path = write(tmp_path, json.dumps({"10": "1", "11": "0"}))
    with pytest.raises(PredictionError, match="is ambiguous: text or index"):
        read_predictions(path, STAR, split)


@pytest.mark.parametrize(
    ("row", "scores"),
    [
        ({"filtered_resps": [[-1.5, False], [-0.5, True]]}, (-1.5, -0.5)),
        ({"filtered_resps": [["-1.5", "False"], ["-inf", "True"]]}, (-1.5, float("-inf"))),
        ({"resps": [[[-1.5, False]], [[-0.5, True]]]}, (-1.5, -0.5)),
        ({"proba": 0.25, "label": 0}, (0.75, 0.25)),
        ({"ranks": [2, 1]}, (-2.0, -1.0)),
    ],
)
def test_scores_of_other_programs(tmp_path: Path, row: dict[str, Any], scores: tuple[float, ...]) -> None:
    path = write(tmp_path, "".join(json.dumps({"doc_id": 0, "doc": {"id": i}, **row}) + "\n" for i in (10, 11)))
    if "proba" in row or "ranks" in row:
        path = write(tmp_path, "".join(json.dumps({"id": i, **row}) + "\n" for i in (10, 11)))
    assert read_predictions(path, MEMES, SPLIT).predictions[0].scores == scores


def test_a_metric_that_ranks_wants_scores(tmp_path: Path) -> None:
    with pytest.raises(PredictionError, match="roc_auc needs a score of every candidate"):
        read_predictions(write(tmp_path, json.dumps({"10": "yes", "11": "no"})), MEMES, SPLIT)


def test_a_log_with_every_query_under_two_filters_is_an_error(tmp_path: Path) -> None:
    rows = [{"doc": {"id": i}, "filter": f, "filtered_resps": ["x"]} for i in (10, 11) for f in ("strict", "flexible")]
    with pytest.raises(PredictionError, match="with several filters: strict, flexible"):
        read_predictions(write(tmp_path, "".join(json.dumps(r) + "\n" for r in rows)), VQA, SPLIT)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("id,prediction\n10\n", "line 2: 1 columns, but 2 names"),
        ('id,prediction\n10,"x\n', "not a table"),
        ("id,prediction\n", "column names and no rows"),
    ],
)
def test_tables_that_cannot_be_read(tmp_path: Path, text: str, what: str) -> None:
    with pytest.raises(PredictionError, match=what):
        read_predictions(write(tmp_path, text), VQA, SPLIT)
