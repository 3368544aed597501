"""Prompts too long for the model are named before its weights are loaded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flamingo_eval.backends.shape import FlamingoShape
from flamingo_eval.cli import app
from flamingo_eval.errors import PromptError
from flamingo_eval.models import read_shape
from flamingo_eval.prompting.prompts import render
from flamingo_eval.runs.plan import Choices, PlannedRun, plan_runs
from flamingo_eval.runs.preflight import require_short
from flamingo_eval.runs.questions import load_questions

CONFIG, TOKENIZER = read_shape("tiny")


def with_context(tokens: int) -> FlamingoShape:
    return FlamingoShape(replace(CONFIG, decoder=replace(CONFIG.decoder, context=tokens)), TOKENIZER)


@pytest.fixture(scope="module")
def runs() -> list[PlannedRun]:
    return plan_runs(load_questions(["vqav2", "imagenet"], "flamingo")[0], Choices(shots=(0, 4), limit=4))


def test_the_limit_is_prompt_and_answer_together(runs: list[PlannedRun]) -> None:
    run = runs[1]
    lengths = [len(TOKENIZER.encode(render(e, run.prompt, run.protocol)).ids) for e in run.episodes()]
    longest = max(lengths) + run.decode.max_new_tokens
    require_short([run], with_context(longest))
    with pytest.raises(PromptError, match=f"vqav2@sample, 4 shots: {longest} tokens with the answer"):
        require_short([run], with_context(longest - 1))


def test_every_task_and_number_of_shots_is_listed_once(runs: list[PlannedRun]) -> None:
    with pytest.raises(PromptError) as caught:
        require_short([*runs, *runs], with_context(2))
    assert str(caught.value).count("tokens with the answer") == 4


def test_failed_queries_that_are_to_be_skipped_are_left_to_the_engine(runs: list[PlannedRun]) -> None:
    skipping = [replace(r, choices=replace(r.choices, on_error="skip")) for r in runs]
    require_short(skipping, with_context(2))


def test_the_command_ends_before_the_model_is_loaded(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["run", "visdial", "--shots", "32", "--limit", "4", "--out", str(tmp_path)])
    assert isinstance(result.exception, PromptError)
    assert "visdial@sample, 32 shots" in str(result.exception)
    assert "loading the model" not in result.stderr
