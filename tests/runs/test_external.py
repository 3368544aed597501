"""Another program's answers as a run: they stand in tables, comparisons and pages beside ours, and say it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from flamingo_eval.cli import app
from flamingo_eval.errors import FlamingoEvalError, RunError, UsageError
from flamingo_eval.report.browser import Browser
from flamingo_eval.report.cells import notes_of
from flamingo_eval.report.diff import compare
from flamingo_eval.report.recorded_prompts import read_runs
from flamingo_eval.report.tables import table_of
from flamingo_eval.report.thumbnails import PictureBook
from flamingo_eval.runs.folder import RunFolder, find_runs, read_outputs
from flamingo_eval.runs.record import read_run
from flamingo_eval.runs.repeat import Repeater


def flamingo_eval(*words: str | Path) -> str:
    result = CliRunner().invoke(app, [str(word) for word in words])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def answered(episodes: Path, out: Path) -> Path:
    """A tiny program: says of every picture what the last demonstration said, or chooses the first candidate."""
    lines = [json.loads(line) for line in episodes.read_text(encoding="utf-8").splitlines()]
    for line in lines:
        texts = [part["text"] for part in line["parts"] if part["type"] == "text"]
        line["prediction"] = texts[-2].strip() if len(texts) > 2 else "2"
    out.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return out


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export")
    flamingo_eval("export", "vqav2", "--shots", "0,4", "--seeds", "0,1", "--limit", "12", "--out", folder / "e.jsonl")
    return answered(folder / "e.jsonl", folder / "answers.jsonl")


def written(answers: Path, out: Path, *words: str, partial: tuple[str, ...] = ()) -> RunFolder:
    output = flamingo_eval("score", "vqav2", "--predictions", answers, "--name", "gpt-4o", "--out", out, *partial,
                           "--json", *words)  # fmt: skip
    return RunFolder(Path(json.loads(output[output.index("{") :])["folder"]))


@pytest.mark.slow
def test_answers_to_an_export_become_runs_in_one_row_of_the_table(answers: Path, tmp_path: Path) -> None:
    for shots in ("0", "4"):
        for seed in ("0", "1"):
            folder = written(answers, tmp_path, "--shots", shots, "--seed", seed)
            demos = read_run(folder.run).spec.demos
            assert (str(demos.shots), str(demos.seed)) == (shots, seed)
    table = table_of(find_runs([tmp_path]))
    (row,) = table.rows
    assert (row.model, row.protocol, sorted(row.cells)) == ("gpt-4o", "flamingo", [0, 4])
    assert row.cells[4].seeds == (0, 1)
    assert row.cells[4].n == 12
    assert not any("partial" in note for note in notes_of(table))
    assert "gpt-4o" in flamingo_eval("report", tmp_path)


def test_the_record_says_where_the_answers_came_from_and_what_is_unknown(answers: Path, tmp_path: Path) -> None:
    record = read_run(written(answers, tmp_path, "--shots", "4", "--seed", "0").run)
    assert record.answers is not None
    assert (record.answers.file, len(record.answers.sha256)) == ("answers.jsonl", 64)
    assert "weights" in record.answers.unknown
    assert record.answers.partial == ""
    assert record.spec.limit == 12


@pytest.mark.slow
def test_the_page_shows_the_exported_prompts_and_the_answers(answers: Path, tmp_path: Path) -> None:
    folder = written(answers, tmp_path, "--shots", "4", "--seed", "0")
    value: Any = Browser(PictureBook(32, 100)).value(read_runs([folder]), 5, None)
    (run,) = value["tasks"][0]["runs"]
    with_prompts = [answer for answer in run["answers"] if answer is not None]
    assert len(with_prompts) == 5
    assert all(isinstance(answer["prompt"], list) and answer["prompt"] for answer in with_prompts)


def test_a_file_of_several_runs_needs_one_chosen(answers: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Choose one with --shots and --seed"):
        written(answers, tmp_path)
    with pytest.raises(UsageError, match="has no answers of vqav2"):
        written(answers, tmp_path, "--shots", "8")


@pytest.mark.slow
def test_answers_without_an_export_are_scored_over_the_queries_of_a_run_and_paired(
    answers: Path, tmp_path: Path
) -> None:
    first = written(answers, tmp_path, "--shots", "4", "--seed", "0")
    outputs, _ = read_outputs(first.outputs)
    plain = tmp_path / "plain.json"
    plain.write_text(json.dumps({o.id: o.prediction for o in outputs} | {"no such query": "7"}))
    command = ("score", "vqav2", "--predictions", plain, "--name", "other", "--out", tmp_path / "r", "--shots", "4")
    flamingo_eval(*command, "--queries-of", first.path)
    (second,) = find_runs([tmp_path / "r"])
    comparison = compare(first, second)
    assert (comparison.common, comparison.only_a, comparison.changed) == (12, (), ())
    assert comparison.scores[0].paired is not None
    record = read_run(second.run)
    assert record.answers is not None
    assert record.spec.protocol.name == "unknown"
    assert {"prompts", "demonstrations", "seed (counted as 0)"} <= set(record.answers.unknown)
    value: Any = Browser(PictureBook(32, 100)).value(read_runs([second]), 3, None)
    assert all("prompt" not in answer for answer in value["tasks"][0]["runs"][0]["answers"])


def test_half_the_queries_are_an_error_or_partial_in_the_record_and_in_the_notes(answers: Path, tmp_path: Path) -> None:
    lines = [line for line in answers.read_text().splitlines() if '"shots": 4, "seed": 0' in line]
    half = tmp_path / "half.jsonl"
    half.write_text("\n".join(lines[:6]))
    with pytest.raises(FlamingoEvalError, match="6 of 12 queries"):
        written(half, tmp_path / "r")
    folder = written(half, tmp_path / "r", partial=("--partial",))
    record = read_run(folder.run)
    assert record.answers is not None
    assert "partial: 6 of 12" in record.answers.partial
    assert any("partial: 6 of 12" in note and "gpt-4o" in note for note in notes_of(table_of([folder])))


def test_answers_made_elsewhere_cannot_be_repeated(answers: Path, tmp_path: Path) -> None:
    folder = written(answers, tmp_path, "--shots", "4", "--seed", "0")
    with pytest.raises(RunError, match="another program"):
        Repeater(tmp_path / "again").repeat(folder)
