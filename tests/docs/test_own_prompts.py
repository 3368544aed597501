"""docs/own-prompts.md: its files are written as they stand on the page, and its commands run."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
from click.testing import Result
from PIL import Image
from typer.testing import CliRunner

from flamingo_eval.cli import app
from flamingo_eval.runs.folder import find_runs
from flamingo_eval.runs.record import read_run, read_scores

PAGE = (Path(__file__).parents[2] / "docs" / "own-prompts.md").read_text(encoding="utf-8")
PICTURES = 6


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the page's files, a small data set and answers to it; commands run there."""
    for name, content in re.findall(r"^`([\w/]+\.(?:yaml|py))`\n\n```(?:yaml|python)\n(.*?)```", PAGE, re.S | re.M):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(content, encoding="utf-8")
    pictures = tmp_path / "my-folder" / "pictures"
    pictures.mkdir(parents=True)
    for i in range(2 * PICTURES):
        Image.new("RGB", (32, 32), (20 * i, 90, 200 - 9 * i)).save(pictures / f"{i}.png")
    for split, first in (("train", 0), ("val", PICTURES)):
        rows = [
            {"id": f"{split}{i}", "image": f"{i}.png", "question": "What is it?", "answers": ["lamp"]}
            for i in range(first, first + PICTURES)
        ]
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (tmp_path / "my-folder" / f"{split}.jsonl").write_text(lines, encoding="utf-8")
    texts = ["a lamp", "Lamp", "two old lamps", "door", "", "lam"]
    answers = [{"id": f"val{PICTURES + i}", "prediction": text} for i, text in enumerate(texts)]
    (tmp_path / "mine.jsonl").write_text("".join(json.dumps(a) + "\n" for a in answers), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def invoke(*words: str) -> Result:
    return CliRunner().invoke(app, list(words))


def commands() -> list[list[str]]:
    lines = [line for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]
    return [shlex.split(line)[1:] for line in lines]


@pytest.mark.slow
def test_the_commands_of_the_page_run(place: Path) -> None:
    assert len(commands()) == 5
    for words in commands():
        result = invoke(*words)
        assert result.exit_code == 0, (words, result.output, result.exception)
    prompt = invoke(*commands()[0]).stdout
    assert prompt.count("Short answer:") == 3
    assert prompt.startswith("<BOS><image>Question:")
    rows = {read_scores(folder.scores).protocol for folder in find_runs([place / "results"])}
    assert rows == {"short", "flamingo"}


@pytest.mark.slow
def test_a_metric_of_ones_own_is_scored_reported_compared_and_put_on_a_page(place: Path) -> None:
    for name in ("a", "b"):
        options = ("--data", "my-folder", "--predictions", "mine.jsonl", "--name", name, "--shots", "2")
        scored = invoke("score", "./lenient.yaml", *options)
        assert scored.exit_code == 0, scored.output
        assert "metric my_metric.py:contains: the code of my_metric.py runs in this process" in scored.stderr
        assert "my_metric.py:contains 50.000000" in scored.stdout.splitlines()[-1]
    first, second = find_runs([place / "results"])
    (place / "my_metric.py").unlink()  # from here on records are read, and no code runs
    scores = read_scores(first.scores)
    assert scores.headline.value == pytest.approx(50.0)
    assert scores.headline.ci95 is not None
    assert scores.scores[1].value == pytest.approx((50 + 100 + 100 / 3 + 3 * 100) / 6)
    table = invoke("report", "--format", "csv", "--metric", "all")
    assert table.exit_code == 0, table.output
    assert table.stdout.count("my_metric.py:contains") == 2
    compared = invoke("diff", str(first.path), str(second.path))
    assert "my_metric.py:contains" in compared.output
    assert invoke("report", "--format", "html", "--out", "page.html").exit_code == 0
    assert "my_metric.py:contains" in (place / "page.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_another_version_of_the_function_makes_another_run(place: Path) -> None:
    options = ("run", "./lenient.yaml", "--data", "my-folder", "--shots", "0")
    assert invoke(*options).exit_code == 0
    path = place / "my_metric.py"
    path.write_text(path.read_text(encoding="utf-8").replace("100.0 * any", "50.0 * any"), encoding="utf-8")
    assert invoke(*options).exit_code == 0
    folders = find_runs([place / "results"])
    assert len({read_run(folder.run).fingerprint for folder in folders}) == 2
    rows = invoke("report", "--format", "csv").stdout.splitlines()
    assert len(rows) == 3  # a header and two rows


@pytest.mark.slow
def test_code_runs_only_for_a_task_that_is_named_by_its_file(place: Path) -> None:
    (place / "tasks").mkdir()
    for name in ("lenient.yaml", "my_metric.py"):
        (place / name).rename(place / "tasks" / name)
    (place / "tasks" / "my_metric.py").write_text("raise SystemExit('it ran')\n", encoding="utf-8")
    refused = invoke("run", "lenient", "--data", "my-folder")
    assert refused.exception is not None
    assert "by its file" in str(refused.exception)
    assert invoke("list", "tasks").exit_code == 0
    assert invoke("check", "lenient", "--data", "my-folder").exit_code == 0


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("def contains(prediction, references:\n", "raised SyntaxError"),
        ("def contain(prediction, references): return 1\n", "Did you mean 'contain'?"),
        ("def contains(answer, references): return 1\n", "unknown form of a metric"),
        ("import nothing_like_it\n", "raised ModuleNotFoundError"),
    ],
)
def test_a_metric_that_cannot_be_loaded_is_named_before_any_data_is_read(place: Path, code: str, message: str) -> None:
    (place / "my_metric.py").write_text(code, encoding="utf-8")
    result = invoke("run", "./lenient.yaml", "--data", "my-folder")
    assert message in str(result.exception)
    assert "my_metric.py" in str(result.exception)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("return 1 / 0", "query val6 raised ZeroDivisionError: division by zero (my_metric.py, line 2)"),
        ("return 'much'", "query val6: expected a number of at least 0, got 'much'"),
        ("return float('nan')", "query val6: expected a number of at least 0, got nan"),
        ("return -1", "query val6: expected a number of at least 0, got -1"),
        ("return None", "query val6: expected a number, got None"),
    ],
)
def test_values_that_are_no_numbers_are_named_with_their_query(place: Path, code: str, message: str) -> None:
    (place / "my_metric.py").write_text(
        f"def contains(prediction, references):\n    {code}\n\ndef shortness(predictions, examples): return [1] * 6\n"
    )
    result = invoke("score", "./lenient.yaml", "--data", "my-folder", "--predictions", "mine.jsonl")
    assert message in str(result.exception)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("return [100.0] * len(predictions)", ""),
        ("import numpy; return numpy.arange(len(predictions))", ""),
        ("return (float(i) for i, _ in enumerate(predictions))", ""),
        ("return [1.0]", "expected a number for each of 6 queries, got 1"),
        ("return {'mean': 1.0}", "expected a list of 6 numbers, got {'mean': 1.0}"),
        ("return 3.0", "expected a list of 6 numbers, got 3.0"),
        ("return [None] * 6", "undefined"),
    ],
)
def test_a_metric_over_all_queries_may_return_any_list_of_numbers(place: Path, code: str, message: str) -> None:
    (place / "my_metric.py").write_text(
        f"def contains(predictions, examples):\n    {code}\n\ndef shortness(predictions, examples): return [1] * 6\n"
    )
    result = invoke("score", "./lenient.yaml", "--data", "my-folder", "--predictions", "mine.jsonl")
    assert message in f"{result.exception} {result.output}"
    assert (result.exit_code == 0) == (message in ("", "undefined"))


def test_a_missing_file_of_a_metric_is_a_problem_of_the_task_file(place: Path) -> None:
    (place / "my_metric.py").unlink()
    result = invoke("run", "./lenient.yaml", "--data", "my-folder")
    assert "lenient.yaml: metric my_metric.py:contains: my_metric.py: No such file" in str(result.exception)
    assert "relative to the task file" in str(result.exception)
