"""--beams, --max-new-tokens and --temperature: in the spec and the identity of every open-ended run, and only there."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from flamingo_eval.cli import app
from flamingo_eval.config.specs import ModelIdentity
from flamingo_eval.errors import UsageError
from flamingo_eval.runs.identity import identity, row_settings
from flamingo_eval.runs.plan import Choices, plan_runs
from flamingo_eval.runs.questions import load_question

MODEL = ModelIdentity("m", "0" * 64, "cpu", "float32")


@pytest.mark.slow
@pytest.mark.parametrize("protocol", ["flamingo", "chat"])
def test_they_stand_before_the_protocols_and_the_tasks(protocol: str) -> None:
    question = load_question("vqav2", protocol)
    (plain,) = plan_runs([question], Choices(limit=2))
    (changed,) = plan_runs([question], Choices(limit=2, beams=2, max_new_tokens=7))
    (same,) = plan_runs([question], Choices(limit=2, beams=plain.decode.beams))
    assert (changed.decode.beams, changed.decode.max_new_tokens) == (2, 7)
    assert changed.decode.length_penalty == plain.decode.length_penalty
    specs = [run.spec(MODEL) for run in (plain, changed, same)]
    assert identity(specs[0]) == identity(specs[2])
    differing = {k for k, v in row_settings(specs[0]).items() if row_settings(specs[1])[k] != v}
    assert differing == {"decode.beams", "decode.max_new_tokens"}


@pytest.mark.slow
def test_tasks_that_rank_candidates_are_not_changed_and_alone_refuse_them() -> None:
    questions = [load_question(task, "flamingo") for task in ("vqav2", "hateful_memes")]
    text, ranked = plan_runs(questions, Choices(shots=(0,), limit=2, max_new_tokens=7))
    (plain,) = plan_runs(questions[1:], Choices(shots=(0,), limit=2))
    assert text.decode.max_new_tokens == 7
    assert ranked.spec(MODEL) == plain.spec(MODEL)
    with pytest.raises(UsageError, match="--beams: hateful_memes ranks candidates"):
        plan_runs(questions[1:], Choices(shots=(0,), limit=2, beams=2))


@pytest.mark.slow
@pytest.mark.parametrize(("value", "refused"), [("0", False), ("0.0", False), ("0.7", True), ("-1", True)])
def test_a_temperature_other_than_0_says_that_nothing_is_sampled(value: str, refused: bool) -> None:
    words = ["run", "vqav2", "--limit", "1", "--dry-run", "--tflops", "1", "--temperature", value]
    result = CliRunner().invoke(app, words)
    assert (result.exit_code != 0) == refused
    if refused:
        assert "decoding is deterministic" in str(result.exception)
