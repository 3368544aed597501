"""show RUN --id ID: what a query of a finished run was shown and what came of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from flamingo_eval.cli import app
from flamingo_eval.errors import RunError, UsageError
from flamingo_eval.runs.folder import RunFolder, find_runs, read_outputs


def flamingo_eval(*words: str | Path) -> str:
    result = CliRunner().invoke(app, [str(word) for word in words])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module", params=["random", "rices"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    out = tmp_path_factory.mktemp(request.param)
    flamingo_eval("run", "vqav2", "--shots", "2", "--limit", "2", "--demos", request.param, "--out", out)
    (folder,) = find_runs([out])
    return folder


@pytest.mark.slow
def test_prompt_answer_references_and_score_of_every_query(run: RunFolder) -> None:
    outputs, _ = read_outputs(run.outputs)
    for output in outputs:
        text = flamingo_eval("show", run.path, "--id", output.id, "--json")
        value: dict[str, Any] = json.loads(text[text.index("{") :])
        assert value["prompt"].count("<image>") == 3
        assert value["shots"] == list(output.shots)
        assert (value["answer"], value["score"]) == (output.prediction, output.score)
        assert len(value["media"]) == 3
        plain = flamingo_eval("show", run.path, "--id", output.id)
        assert f"answer: {output.prediction}" in plain
        assert value["references"][0] in plain


@pytest.mark.slow
def test_a_query_that_the_run_does_not_have_is_an_error(run: RunFolder) -> None:
    with pytest.raises(RunError, match="no query 'x'"):
        flamingo_eval("show", run.path, "--id", "x")
    with pytest.raises(UsageError, match="Give --id"):
        flamingo_eval("show", run.path)
    with pytest.raises(UsageError, match="with --index"):
        flamingo_eval("show", "vqav2", "--id", "1")
