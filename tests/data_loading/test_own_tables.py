"""A user's own tables as spreadsheets write them, and what is said where they do not fit."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from PIL import Image as PillowImage
from typer.testing import CliRunner

from flamingo_eval.cli import app
from flamingo_eval.config.specs import TaskSpec
from flamingo_eval.data.check import check_task
from flamingo_eval.data.layouts import load_split
from flamingo_eval.data.task_file import load_task
from flamingo_eval.errors import DataError
from flamingo_eval.metrics.top_k import hits
from flamingo_eval.records import Best, Prediction
from tests.support.fixture_types import TaskNamed, Write

TASK = """
name: own
title: Own
modality: image
mode: {mode}
prompt: qa
data:
  layout: rows
  query: val
  support: train
  counts: {{val: 3}}
  splits:
    train: {{rows: [train.csv]}}
    val: {{rows: [val.csv]}}
metrics: [exact_match]
"""
ROWS = "image,question,answers\na.png,What?,cat\nb.png,What?,dog\nc.png,What?,ant\n"


@pytest.fixture
def own(write: Write, tmp_path: Path) -> TaskSpec:
    for name in "abc":
        PillowImage.new("RGB", (8, 8), (ord(name), 0, 0)).save(tmp_path / f"{name}.png")
    write("train.csv", ROWS)
    write("val.csv", ROWS)
    return load_task(write("own.yaml", TASK.format(mode="open-ended")))


def told(task: TaskSpec, root: Path) -> list[str]:
    return [str(problem) for problem in check_task(task, root).problems]


def test_a_support_split_without_answers_names_the_columns_and_the_nearest(
    own: TaskSpec, write: Write, tmp_path: Path
) -> None:
    write("train.csv", ROWS.replace("answers", "answer"))
    with pytest.raises(DataError) as caught:
        load_split(own, tmp_path, "train")
    assert "no column 'answers' or 'label'. Is it 'answer'?" in str(caught.value)
    assert "Columns found: image, question, answer." in str(caught.value)
    assert len(told(own, tmp_path)) == 1
    write("train.csv", "image,question,answers\na.png,What?,\nb.png,What?,\n")
    with pytest.raises(DataError, match="column 'answers' is empty in every row"):
        load_split(own, tmp_path, "train")


def test_an_official_support_split_without_answers_is_an_error_too(
    write: Write, task: TaskNamed, tmp_path: Path
) -> None:
    write("Annotations/train.json", [{"image": "a.jpg", "question": "What?"}])
    with pytest.raises(DataError, match=r"no answers in .*train\.json"):
        load_split(task("vizwiz"), tmp_path, "train")


@pytest.mark.parametrize(("mark", "name"), [(";", "semicolons"), ("\t", "tabs"), ("|", "vertical bars")])
def test_another_separator_is_named(own: TaskSpec, write: Write, tmp_path: Path, mark: str, name: str) -> None:
    write("val.csv", ROWS.replace(",", mark))
    header = ROWS.partition("\n")[0].replace(",", mark)
    assert any(f"columns found: {header}: is it separated by {name}?" in text for text in told(own, tmp_path))


def test_another_encoding_is_named_with_its_line(own: TaskSpec, write: Write, tmp_path: Path) -> None:
    write("val.csv", ROWS.replace("dog", "café").encode("latin-1"))
    (text,) = told(own, tmp_path)
    assert "line 3: not UTF-8 text" in text
    assert "'b.png,What?,café'" in text
    assert "Save it as UTF-8." in text
    write("val.csv", ROWS.encode("utf-16"))
    assert "expected UTF-8 text, got UTF-16" in told(own, tmp_path)[0]


def test_no_column_of_pictures_is_one_problem_and_not_one_a_row(own: TaskSpec, write: Write, tmp_path: Path) -> None:
    write("val.csv", ROWS.replace("image", "file"))
    (text,) = told(own, tmp_path)
    assert "no column 'image' or 'video'" in text
    assert "Columns found: file, question, answers." in text


def test_what_is_there_is_counted_beside_the_official_rows(
    own: TaskSpec, write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    command = ["check", "./own.yaml", "--data", "."]
    assert "all files are present" in CliRunner().invoke(app, command).output
    write("val.csv", "".join(ROWS.splitlines(keepends=True)[:2]))
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0
    assert "parts of the benchmark are missing: val 1 of 3 rows" in result.output
    parsed = json.loads(CliRunner().invoke(app, [*command, "--json"]).stdout)
    assert (parsed["ok"], parsed["complete"]) == (True, False)
    (tmp_path / "train.csv").unlink()
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 1
    assert "split 'train', which shots are drawn from: no rows file: tried train.csv" in result.output


def test_a_choice_that_stands_twice_is_right_both_times(write: Write, tmp_path: Path) -> None:
    task = load_task(write("own.yaml", TASK.format(mode="close-ended")))
    write("val.csv", 'image,question,candidates,answers\na.png,What?,"[""a"", ""b"", ""b"", ""c""]",b\n')
    (example,) = load_split(task, tmp_path, "val", media=False).examples
    for chosen, value in enumerate((0.0, 100.0, 100.0, 0.0)):
        scores = tuple(float(i == chosen) for i in range(4))
        assert hits([Prediction("0", scores=scores)], [example], 1) == [value]
        assert hits([Prediction("0", best=Best(chosen, 1.0))], [example], 1) == [value]


@pytest.mark.slow
def test_a_data_path_that_is_not_utf8_runs_and_is_recorded(
    own: TaskSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = os.fsencode(tmp_path) + b"/d\xe9"
    try:
        os.mkdir(folder)
    except OSError:
        pytest.skip("the file system takes UTF-8 names alone")
    for name in ("a.png", "b.png", "c.png", "train.csv", "val.csv"):
        os.link(tmp_path / name, os.path.join(folder, os.fsencode(name)))
    monkeypatch.chdir(tmp_path)
    data = ["--data", os.fsdecode(b"d\xe9")]
    for command in (["check"], ["show", "--shots", "1"], ["run", "--shots", "1", "--out", "out"]):
        for more in ([], ["--json"]):
            result = CliRunner().invoke(app, [command[0], "./own.yaml", *command[1:], *data, *more])
            assert result.exit_code == 0, (command, result.output)
    (record,) = (tmp_path / "out").rglob("run.json")
    assert json.loads(record.read_text("utf-8"))["spec"]["data"] == "d\\udce9"
