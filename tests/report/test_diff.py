"""Two runs side by side."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from flamingo_eval.cli import app
from flamingo_eval.config.specs import DecodeOverride, ModelIdentity
from flamingo_eval.errors import RunError
from flamingo_eval.metrics.bootstrap import Paired
from flamingo_eval.records import Output, Prompt, best_of
from flamingo_eval.report.diff import answer_of, as_json, compare, one_run
from flamingo_eval.runs.backend import Backend
from flamingo_eval.runs.recorded import recorded_spec


def half_right(prompt: Prompt) -> str:
    return "1" if str(prompt.parts[-1]).count("How many") else "purple"


def test_a_run_is_the_same_as_itself_done_again(make_run: Any) -> None:
    a, b = make_run("red"), make_run("red", out="again")
    comparison = compare(a, b)
    assert comparison.same_results
    assert (comparison.configuration, comparison.inputs, comparison.changed) == ((), (), ())
    assert comparison.scores[0].paired == Paired(0.0, (0.0, 0.0), 1.0)


def test_what_was_chosen_otherwise_is_listed_by_key(make_run: Any) -> None:
    a, b = make_run("red", shots=0), make_run("red", shots=4, seed=1, model="n", sha256="beef")
    comparison = compare(a, b)
    assert {d.key: (d.a, d.b) for d in comparison.configuration} == {
        "demos.shots": (0, 4),
        "demos.seed": (0, 1),
        "model": ("m", "n"),
    }
    assert {d.key: (d.a, d.b) for d in comparison.inputs} == {"checkpoint": ("c0ffee", "beef")}
    assert not comparison.same_results


def test_changed_answers_and_the_paired_difference(make_run: Any) -> None:
    a, b = make_run("purple"), make_run(half_right, out="b")
    comparison = compare(a, b)
    assert [c.id for c in comparison.changed] == [str(i) for i in range(106, 112)]
    assert (comparison.changed[0].a, comparison.changed[0].b) == ("purple", "1")
    assert (comparison.changed[0].score_a, comparison.changed[0].score_b) == (0.0, 100.0)
    (score,) = comparison.scores
    assert (score.a, score.b) == (0.0, 50.0)
    # every picture has one question of each kind, so no draw of pictures can change the difference
    assert score.paired is not None
    assert score.paired.difference == 50.0
    assert score.paired.ci95 == (50.0, 50.0)


def test_runs_over_partly_the_same_queries_are_paired_over_those(make_run: Any) -> None:
    a, b = make_run("1"), make_run("purple", limit=9)
    comparison = compare(a, b)
    assert comparison.common == 9
    assert len(comparison.only_a) == 3
    (score,) = comparison.scores
    assert score.why == "over the 9 queries in both, whole pictures drawn"
    assert score.paired is not None
    assert score.paired.difference < 0
    lines = [json.loads(line) for line in b.outputs.read_text().splitlines()]
    b.outputs.write_text("".join(json.dumps({k: v for k, v in x.items() if k != "media"}) + "\n" for x in lines))
    a.outputs.write_text(a.outputs.read_text().replace('"media"', '"unknown"'))  # as earlier versions wrote them
    (score,) = compare(a, b).scores
    assert score.why == "over the 9 queries in both, each query drawn separately"


def test_a_corpus_metric_over_other_queries_has_no_paired_difference(make_run: Any) -> None:
    a, b = make_run("1"), make_run("purple", limit=9)
    scores = json.loads(a.scores.read_text())
    scores["scores"][0]["value"] = 71.3  # no mean of the queries' own scores
    a.scores.write_text(json.dumps(scores))
    (score,) = compare(a, b).scores
    assert score.paired is None
    assert score.why == "the runs are over different queries"


def test_candidates_compare_by_the_best_one() -> None:
    output = Output("1", (), 3, scores=(-2.0, -1.0, -1.0))
    assert answer_of(output) == "candidate 1"
    assert best_of((float("nan"), -5.0)) == 1
    assert answer_of(Output("1", (), 3, error="cut")) == "failed: cut"


def test_a_cut_outputs_file_is_named(make_run: Any) -> None:
    a, b = make_run("1"), make_run("red", out="b")
    b.outputs.write_bytes(b.outputs.read_bytes()[:-5])
    with pytest.raises(RunError, match=r"outputs\.jsonl: missing, or truncated at byte"):
        compare(a, b)


def test_one_run_or_none(make_run: Any, tmp_path: Path) -> None:
    a = make_run("1")
    assert one_run(tmp_path / "results").path == a.path
    make_run("1", shots=4)
    with pytest.raises(RunError, match="2 runs are below it"):
        one_run(tmp_path / "results")


def test_the_command_prints_and_json_is_whole(make_run: Any) -> None:
    a, b = make_run("purple"), make_run(half_right, out="b")
    result = CliRunner().invoke(app, ["diff", str(a.path), str(b.path), "--limit", "1"])
    assert result.exit_code == 0, result.output
    assert "configuration: the same" in result.output
    assert "answers: 6 of 12 changed" in result.output
    printed = CliRunner().invoke(app, ["diff", str(a.path), str(b.path), "--json"])
    assert json.loads(printed.stdout) == json.loads(json.dumps(as_json(compare(a, b))))


def test_hostile_answers_cannot_speak_to_the_terminal(make_run: Any) -> None:
    a, b = make_run("x"), make_run("\x1b[2J\u202eevil", out="b")
    result = CliRunner().invoke(app, ["diff", str(a.path), str(b.path)])
    assert "\x1b" not in result.output
    assert "\u202e" not in result.output


# ----------------------------------------------------------------------------------------------------------- rerun


def test_the_spec_comes_back_from_its_record(make_run: Any) -> None:
    folder = make_run("red", shots=4, seed=2, limit=5, protocol="openflamingo")
    spec = recorded_spec(folder)
    assert (spec.demos.shots, spec.demos.seed, spec.limit) == (4, 2, 5)
    assert spec.prompt.decode == DecodeOverride(beams=3, max_new_tokens=5, length_penalty=0.0)
    assert spec.task.data.splits["val"]["images"][0] == "val2014"
    assert replace(spec, limit=6) != spec


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"demos": {"method": "magic"}}, "spec.demos.method: expected one of random"),
        ({"limit": "many"}, "spec.limit: expected an integer, got 'many'"),
        ({"surprise": 1}, "spec: unknown key 'surprise'"),
        ({"task": 3}, "spec.task: expected keys and values, got 3"),
    ],
)
def test_a_record_that_cannot_be_read_says_where(make_run: Any, change: dict[str, Any], says: str) -> None:
    folder = make_run("red")
    record = json.loads(folder.run.read_text())
    record["spec"] |= change
    folder.run.write_text(json.dumps(record))
    with pytest.raises(RunError, match=says):
        recorded_spec(folder)


@pytest.fixture
def rerun_with(monkeypatch: pytest.MonkeyPatch, saying_engine: Any, vqa_root: Path) -> Any:
    """rerun_with(folder, say): the command's result, with an engine that says `say`."""

    def go(folder: Any, say: str, *more: str, sha256: str = "c0ffee") -> Any:
        backend = Backend(ModelIdentity("m", sha256, "cpu", "float32"), saying_engine(lambda prompt: say))
        monkeypatch.setattr("flamingo_eval.runs.repeat.load_backend", lambda *_: backend)
        return CliRunner().invoke(app, ["rerun", str(folder.path), "--data", str(vqa_root), *more])

    return go


def test_rerun_of_the_same_is_exit_0(make_run: Any, rerun_with: Any) -> None:
    result = rerun_with(make_run("red", shots=4), "red")
    assert result.exit_code == 0, result.output
    assert "inputs: the same" in result.output
    assert "answers: 0 of 12 changed" in result.output


def test_rerun_says_what_differs(make_run: Any, rerun_with: Any, tmp_path: Path) -> None:
    result = rerun_with(make_run("red"), "blue", "--json", "--out", str(tmp_path / "kept"), sha256="beef")
    assert result.exit_code == 1
    value = json.loads(result.stdout)
    assert len(value["changed"]) == 12
    assert value["inputs"] == [{"key": "checkpoint", "a": "c0ffee", "b": "beef"}]
    assert one_run(tmp_path / "kept").path.is_dir()


def test_rerun_needs_the_data_that_the_record_does_not_hold(make_run: Any) -> None:
    result = CliRunner().invoke(app, ["rerun", str(make_run("red").path)])
    assert isinstance(result.exception, RunError)
    assert "Give it with --data" in str(result.exception)


def test_several_runs_are_repeated_and_those_that_differ_named(make_run: Any, rerun_with: Any) -> None:
    first, second = make_run("red", shots=4), make_run("red", shots=8)
    lines = second.outputs.read_text().splitlines()
    changed = json.loads(lines[0]) | {"prediction": "green", "raw": "green"}
    second.outputs.write_text("\n".join([json.dumps(changed), *lines[1:]]) + "\n")
    result = rerun_with(first, "red", str(second.path))
    assert result.exit_code == 1
    assert f"{first.path}: the same" in result.output
    assert f"{second.path}: not the same" in result.output
    assert "answers: 1 of 12 changed" in result.output
    assert "2 runs repeated: 1 the same, 1 not" in result.output


def test_several_runs_as_json(make_run: Any, rerun_with: Any) -> None:
    first, second = make_run("red", shots=4), make_run("red", shots=8)
    result = rerun_with(first, "red", str(second.path), "--json")
    assert result.exit_code == 0
    assert [r["changed"] for r in json.loads(result.stdout)["runs"]] == [[], []]
