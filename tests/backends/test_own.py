"""A class of the user's as a model: it runs, is checked, and what is wrong with it is said."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from flamingo_eval.cli import app

EXAMPLE = Path(__file__).parents[1] / "data" / "own_model" / "my_model.py"
GUIDE = Path(__file__).parents[2] / "docs" / "models.md"


def command(*words: str | Path) -> Result:
    return CliRunner().invoke(app, ["run", *map(str, words)], catch_exceptions=True)


@pytest.mark.slow
def test_the_example_of_the_guide_answers_open_and_close_ended_tasks(tmp_path: Path) -> None:
    model = tmp_path / "my_model.py"
    shutil.copy(EXAMPLE, model)
    words = ("--shots", "2", "--limit", "4", "--device", "cpu", "--out", tmp_path / "out")
    result = command("vqav2", "star", "--model", f"{model}:MyModel", *words)
    assert result.exit_code == 0, result.output + str(result.exception)
    assert "your code runs in this process" in " ".join(result.output.split())
    records = [json.loads(p.read_text()) for p in (tmp_path / "out").rglob("run.json")]
    assert {r["model"]["class"] for r in records} == {"my_model.py:MyModel"}
    assert str(tmp_path) not in json.dumps(records)


def test_the_guide_shows_the_example() -> None:
    examples = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    assert EXAMPLE.read_text() in examples


@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("class MyModel:\n    def generate(self, p, s): return ['x'] * len(p)\n", "score is missing"),
        ("class Other: pass\n", "no class 'MyModel'"),
        ("import nothing_of_this_name\n", "nothing_of_this_name"),
        ("class MyModel:\n    score = 1\n    generate = 2\n", "generate and score is missing"),
        (
            "class MyModel:\n    def score(self, p, c, s): ...\n    def generate(self, p, s): return ['x']\n",
            "expected 4 answers, got 1",
        ),
        (
            "class MyModel:\n    def score(self, p, c, s): ...\n    def generate(self, p, s): return [1] * len(p)\n",
            "expected a text, got 1",
        ),
        (
            "class MyModel:\n    def score(self, p, c, s): ...\n    def generate(self, p, s):\n        1 / 0\n",
            "ZeroDivisionError: division by zero (my_model.py, line 4)",
        ),
        ("class MyModel:\n    def __init__(self, size): ...\n    score = generate = lambda *a: []\n", "size"),
    ],
)
def test_what_is_wrong_with_a_class_is_said(tmp_path: Path, code: str, message: str) -> None:
    model = tmp_path / "my_model.py"
    model.write_text(code)
    result = command("vqav2", "--shots", "0", "--limit", "4", "--out", tmp_path, "--model", f"{model}:MyModel")
    assert result.exit_code != 0
    assert message in str(result.exception)


@pytest.mark.slow
def test_a_class_that_is_written_for_evaluate_works_too(tmp_path: Path) -> None:
    model = tmp_path / "pairs.py"
    model.write_text(
        "from flamingo_eval import Answer\n\n\nclass Pairs:\n"
        "    def generate(self, prompts, spec):\n"
        "        for i, prompt in reversed(list(enumerate(prompts))):\n"
        "            yield i, Answer(tokens=3, text=prompt.id)\n\n"
        "    def score(self, prompts, candidates, spec):\n"
        "        for i, names in enumerate(candidates):\n"
        "            yield i, Answer(tokens=3, scores=tuple(range(len(names))))\n"
    )
    words = ("--shots", "0", "--limit", "10", "--device", "cpu", "--out", tmp_path / "out", "--protocol", "flamingo")
    result = command("vqav2", "star", "--model", f"{model}:Pairs", *words)
    assert result.exit_code == 0, result.output + str(result.exception)
    (outputs,) = (tmp_path / "out" / "vqav2@sample").rglob("outputs.jsonl")
    lines = [json.loads(line) for line in outputs.read_text().splitlines()]
    assert all(line["raw"] == line["id"] for line in lines)


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    result = command("vqav2", "--model", f"{tmp_path}/absent.py:MyModel")
    assert "No such file" in str(result.exception)
