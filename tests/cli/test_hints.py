"""What people type by mistake, and the hint that says what to type."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from flamingo_eval.cli import app
from flamingo_eval.cli.options import numbers, task_list
from flamingo_eval.errors import FlamingoEvalError, UsageError


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "hint"),
    [
        ("run VQAv2", "unknown task 'VQAv2'. Did you mean 'vqav2'?"),
        ("check VQAv2", "Did you mean 'vqav2'?"),
        ("run vqav2,cocoo", "unknown task 'cocoo'. Did you mean 'coco'?"),
        ("run vqav2 --model tinny", "tinny: there is no such folder. Did you mean 'tiny'?"),
        ("run vqav2 --shots 4-8", "invalid value for --shots: '4-8'. Expected integers, for example 0,4,8.\n"
                                  "Write 4,5,6,7,8."),
        ("run vqav2 --shots 4;8", "Write 4,8."),
        ("run vqav2 --shots 0.5", "invalid value for --shots: '0.5'. Expected integers"),
        ("run vqav2 --seeds a", "invalid value for --seeds: 'a'. Expected integers, for example 0,1,2."),
        ("run vqav2 --seeds 0..2", "Write 0,1,2."),
        ("run vqav2 --split vall", "vqav2 has no split 'vall'. Did you mean 'val'?"),
        ("run vqav2 --protocol Flamingoo", "Did you mean 'flamingo'?"),
        ("run ./vqav2.yml", "task file ./vqav2.yml: there is no such file."),
        ("show vqav2,coco", "show prints the prompt of one task, got 2: vqav2, coco."),
        ("list task", "Did you mean 'tasks'?"),
        ("score VQAv2 --predictions x.json", "Did you mean 'vqav2'?"),
        ("export vqav2 --out .", "it is a folder"),
    ],
)  # fmt: skip
def test_the_hint(words: str, hint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, words.split())
    assert isinstance(result.exception, FlamingoEvalError), result.output
    assert hint in str(result.exception)


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        ("run vqav2 --limit -1", "-1 is not in the range x>=1"),
        ("run vqav2 --limit ten", "Invalid value for '--limit': 'ten'"),
        ("run vqav2 --batch_size 4", "Did you mean '--batch-size'?"),
        ("run vqav2 --shot 4", "'--shots'"),
        ("rnu vqav2", "No such command 'rnu'"),
    ],
)
def test_the_hint_of_the_parser(words: str, hint: str) -> None:
    result = CliRunner().invoke(app, words.split())
    assert result.exit_code == 2
    assert hint in " ".join(result.output.split())


@pytest.mark.parametrize("words", [["vqav2,coco"], ["vqav2", "coco"], ["vqav2,", "coco"], ["vqav2 , coco"]])
def test_tasks_may_stand_apart_or_with_commas(words: list[str]) -> None:
    assert task_list(words) == ["vqav2", "coco"]


@pytest.mark.parametrize("text", ["0,4", "0, 4", " 0 ,4 ", "0,4,4"])
def test_numbers_may_have_blanks_between_them(text: str) -> None:
    assert numbers(text, "--shots") == (0, 4)


@pytest.mark.parametrize(("text", "fix"), [("8-4", ""), ("4-900", ""), ("[0, 4]", "Write 0,4."), ("0 4", "Write 0,4.")])
def test_only_what_can_be_meant_is_written_out(text: str, fix: str) -> None:
    with pytest.raises(UsageError) as caught:
        numbers(text, "--shots")
    assert str(caught.value).partition("\n")[2] == fix
