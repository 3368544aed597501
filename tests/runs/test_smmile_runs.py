"""SMMILE from the command's words to the table: baselines below the score, shots that queries do not bring, notes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

import flamingo_eval
from flamingo_eval.cli import app
from flamingo_eval.evaluation import Evaluation
from flamingo_eval.records import Answer
from flamingo_eval.report.cells import lines, notes_of
from flamingo_eval.report.tables import table_of

PROBLEMS: dict[str, tuple[str, ...]] = {"a": ("cyst", "cyst", "tumour", "cyst"), "b": ("left", "right", "right")}


class Repeats:
    """A model that says what the conversation's first answer was, or nothing."""

    name = "repeats"

    def generate(self, queries: Iterable[Any], *_: Any, **__: Any) -> Iterator[tuple[int, Answer]]:
        for i, query in enumerate(queries):
            answers = [turn.parts[0] for turn in query.turns if turn.role == "assistant"]
            yield i, Answer(1, text=str(answers[0]) if answers else "")

    score = generate


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    (folder / "images").mkdir(parents=True)
    rows = []
    for problem, answers in PROBLEMS.items():
        for order, answer in enumerate(answers):
            image = f"{problem}{order}.png"
            Image.new("RGB", (8, 8), (order * 40, 0, 0)).save(folder / "images" / image)
            rows.append({"problem_id": problem, "order": order, "image": image, "question": "?", "answer": answer})
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def evaluated(root: Path, **options: Any) -> Evaluation:
    out = root.parent / "results"
    model: Any = Repeats()
    return flamingo_eval.evaluate(model, "smmile", data=root, out=out, protocol="smmile", **options)


def test_the_baselines_stand_below_the_score_and_short_queries_are_counted(root: Path) -> None:
    done = evaluated(root, shots="all")
    table = table_of([r.folder for r in done.runs])
    assert table.shots == (3,)
    assert [(row[0], row[2], row[-1].split()[0]) for row in lines(table)] == [
        ("smmile", "top-1", "50.0"),  # cyst is right, left is not
        ("smmile", "majority of the shots", "50.0"),  # cyst; left and right are equal, left is shown first
        ("smmile", "random shot", lines(table)[2][-1].split()[0]),
    ]
    notes = notes_of(table)
    assert "smmile, 3 shots: 1 of 2 queries have fewer demonstrations and show all of them" in notes
    assert any("always repeating such an answer" in note for note in notes)


def test_at_zero_shots_there_is_no_baseline_and_nothing_is_short(root: Path) -> None:
    table = table_of([r.folder for r in evaluated(root, shots=0).runs])
    assert [row.metric for row in table.rows] == ["exact_match"]
    assert not any("fewer demonstrations" in note for note in notes_of(table))


def test_answers_of_another_program_are_scored_with_and_without_what_they_were_shown(root: Path) -> None:
    answers = root.parent / "answers.jsonl"
    answers.write_text('{"id": "a", "prediction": "Cyst."}\n{"id": "b", "prediction": "no idea"}\n')
    words = ["score", "smmile", "--data", str(root), "--predictions", str(answers), "--json"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["per_example"] == {"a": 100.0, "b": 0.0}
    letters = root.parent / "letters.csv"
    letters.write_text("id,prediction\na,A\nb,(A)\n")
    done = CliRunner().invoke(
        app, ["score", "smmile_mcqa", "--data", str(root), "--predictions", str(letters), "--json"]
    )
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["per_example"] == {"a": 100.0, "b": 0.0}


@pytest.mark.slow
@pytest.mark.parametrize("words", [[], ["--name", "theirs"]])
def test_score_prints_the_baselines_of_the_shots_that_queries_bring(root: Path, words: list[str]) -> None:
    answers = root.parent / "answers.jsonl"
    answers.write_text('{"id": "a", "prediction": "cyst"}\n{"id": "b", "prediction": "no idea"}\n')
    out = ["--out", str(root.parent / "results")] if words else []

    def breakdown(task: str, *more: str) -> dict[str, float]:
        base = ["score", task, "--data", str(root), "--predictions", str(answers), "--json", *words, *out, *more]
        done = CliRunner().invoke(app, base)
        assert done.exit_code == 0, done.output
        values: dict[str, float] = json.loads(done.stdout)["scores"][0]["breakdown"]
        return values

    assert breakdown("smmile")["majority of the shots"] == 50.0  # cyst is right; of left and right, left is first
    assert breakdown("smmile")["random shot"] in (0.0, 50.0, 100.0)
    assert breakdown("smmile", "--shots", "1")["majority of the shots"] == 50.0
    assert "majority of the shots" not in breakdown("smmile", "--shots", "0")
    answers.write_text('{"id": "a", "prediction": "A"}\n{"id": "b", "prediction": "A"}\n')
    assert breakdown("smmile_mcqa")["majority of the shots"] == 50.0
    done = CliRunner().invoke(
        app, ["score", "smmile", "--data", str(root), "--predictions", str(answers), *words, *out]
    )
    assert "majority of the shots" in done.stdout


def test_the_lettered_form_is_the_tasks_own_and_asks_for_a_letter_after_reasoning(root: Path) -> None:
    class Reasons(Repeats):
        def generate(self, queries: Iterable[Any], *_: Any, **__: Any) -> Iterator[tuple[int, Answer]]:
            for i, _query in enumerate(queries):
                yield i, Answer(1, text="<think>B?</think><answer>B</answer>")

    model: Any = Reasons()
    done = flamingo_eval.evaluate(
        model, "smmile_mcqa", shots="all", data=root, out=root.parent / "results", protocol="smmile"
    )
    assert [r.scores[0].value for r in done.runs] == [50.0]  # right is B of b, cyst is A of a
