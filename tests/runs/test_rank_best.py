"""Runs that ask for the best candidate alone: the same answers and scores as with all candidates scored."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from flamingo_eval.cli import app
from flamingo_eval.config.names import shipped, task_names
from flamingo_eval.config.specs import MetricSpec, ModelIdentity, RunSpec
from flamingo_eval.data.task_file import load_task
from flamingo_eval.errors import ConfigError, PredictionError, UsageError
from flamingo_eval.metrics.scoring import score_all
from flamingo_eval.records import Best, Example, Output, Prediction, Split
from flamingo_eval.report.diff import answer_of, compare
from flamingo_eval.runs.estimate import Reader
from flamingo_eval.runs.folder import RunFolder, output_line, parse_output
from flamingo_eval.runs.plan import Choices, plan_runs
from flamingo_eval.runs.preflight import check_wanted
from flamingo_eval.runs.questions import load_questions
from flamingo_eval.runs.record import spec_json
from flamingo_eval.runs.recorded import recorded_spec
from flamingo_eval.runs.runner import run
from flamingo_eval.runs.submission import write_submission

THINGS = ("train", "taxi", "boat", "dog", "cat", "wolf", "box", "palm", "goose", "cow", "ship", "clock")
CLASSES = [f"{thing} number {n}{letter}" for thing in THINGS for n in range(10, 30) for letter in "abc"]
TASK = """\
name: things
title: Things
modality: image
mode: close-ended
prompt: classification
data:
  layout: rows
  query: val
  support: train
  splits:
    train: {{rows: train.jsonl, images: pictures, classes: {classes}}}
    val: {{rows: val.jsonl, images: pictures, classes: {classes}}}
metrics: [top1]
rank: {{wanted: {wanted}}}
"""


@pytest.fixture(scope="module")
def things(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A task of 720 classes of several tokens: a tree large enough to be searched."""
    root = tmp_path_factory.mktemp("things")
    (root / "pictures").mkdir()
    for split, first, n in (("train", 0, 6), ("val", 6, 8)):
        rows = []
        for i in range(first, first + n):
            Image.new("RGB", (64, 64), (20 * i, 40, 255 - 15 * i)).save(root / "pictures" / f"{i}.png")
            rows.append(json.dumps({"id": str(i), "image": f"{i}.png", "label": CLASSES[i * 40]}))
        (root / f"{split}.jsonl").write_text("\n".join(rows))
    for choice in ("all", "best"):
        (root / f"{choice}.yaml").write_text(TASK.format(classes=json.dumps(CLASSES), wanted=choice))
    return root


def run_cli(*words: str) -> dict[str, Any]:
    done = CliRunner().invoke(app, ["run", *words, "--json"])
    assert done.exit_code == 0, done.output
    value: dict[str, Any] = json.loads(done.stdout)["runs"][0]
    return value


def outputs(folder: str | Path) -> list[Output]:
    return [parse_output(line) for line in (Path(folder) / "outputs.jsonl").read_text().splitlines()]


@pytest.mark.slow
@pytest.mark.parametrize("task", ["imagenet", "star"])
def test_a_run_predicts_and_scores_the_same(task: str, tmp_path: Path) -> None:
    words = (task, "--shots", "2", "--limit", "12", "--out", str(tmp_path))
    whole, best = run_cli(*words), run_cli(*words, "--rank", "best")
    assert whole["folder"] != best["folder"]
    assert [s["value"] for s in best["scores"]] == [s["value"] for s in whole["scores"]]
    assert [s["ci95"] for s in best["scores"]] == [s["ci95"] for s in whole["scores"]]
    for a, b in zip(outputs(whole["folder"]), outputs(best["folder"]), strict=True):
        assert (answer_of(a), a.score, a.shots) == (answer_of(b), b.score, b.shots)
        assert b.scores is None
        assert a.scores is not None
        assert b.best is not None
        assert b.best.score == pytest.approx(max(a.scores), abs=1e-4)
    assert run_cli(*words, "--rank", "all")["folder"] == whole["folder"]  # the task's own choice


@pytest.mark.slow
def test_a_large_tree_is_searched_and_a_task_may_ask_for_it(things: Path, tmp_path: Path) -> None:
    words = ("--data", str(things), "--shots", "2", "--out", str(tmp_path))
    whole = run_cli(str(things / "all.yaml"), *words)
    best = run_cli(str(things / "best.yaml"), *words, "--batch-size", "3")
    again = run_cli(str(things / "best.yaml"), *words, "--rank", "all")
    assert [answer_of(o) for o in outputs(best["folder"])] == [answer_of(o) for o in outputs(whole["folder"])]
    assert best["scores"][0]["value"] == whole["scores"][0]["value"]
    assert "top5" in whole["scores"][0]["breakdown"]
    assert "top5" not in best["scores"][0]["breakdown"]
    assert [o.scores for o in outputs(again["folder"])] == [o.scores for o in outputs(whole["folder"])]
    record = json.loads((Path(best["folder"]) / "run.json").read_text())
    assert record["engine"]["searched"] == 8
    assert record["spec"]["rank"]["wanted"] == "best"
    assert recorded_spec(RunFolder(Path(best["folder"]))).rank.wanted == "best"
    assert recorded_spec(RunFolder(Path(again["folder"]))).rank.wanted == "all"

    a, b = RunFolder(Path(whole["folder"])), RunFolder(Path(best["folder"]))
    comparison = compare(a, b)
    assert [(d.key, d.a, d.b) for d in comparison.configuration] == [("rank.wanted", "all", "best")]
    assert (comparison.changed, comparison.same_results) == ((), False)
    page = CliRunner().invoke(
        app, ["report", str(tmp_path), "--format", "html", "--data", str(things), "--out", str(tmp_path / "page.html")]
    )
    assert page.exit_code == 0, page.output


@pytest.mark.slow
def test_an_interrupted_run_ends_with_the_same_bytes(things: Path, tmp_path: Path) -> None:
    words = (str(things / "best.yaml"), "--data", str(things), "--shots", "1", "--out", str(tmp_path))
    folder = Path(run_cli(*words)["folder"])
    whole = (folder / "outputs.jsonl").read_bytes()
    (folder / "outputs.jsonl").write_bytes(b"".join(whole.splitlines(keepends=True)[2:5]) + b'{"id": "1')
    (folder / "scores.json").unlink()
    run_cli(*words)
    assert (folder / "outputs.jsonl").read_bytes() == whole


# ------------------------------------------------------------------------------------------------- where it is refused


NOBODY = ModelIdentity("m", "0", "cpu", "float32")


def spec_of(task: str, protocol: str = "flamingo", **choices: Any) -> RunSpec:
    questions, _ = load_questions([task], protocol)
    return plan_runs(questions, Choices(**choices))[0].spec(NOBODY)


@pytest.mark.slow
def test_tasks_that_need_all_scores_refuse() -> None:
    refused, taken = {}, []
    for name in task_names():
        task = load_task(shipped("tasks") / f"{name}.yaml")
        if task.mode == "open-ended":
            continue
        spec = replace(spec_of("imagenet", rank="best"), task=task)
        try:
            check_wanted(spec.task, spec.rank)
            taken.append(name)
        except UsageError as error:
            refused[name] = str(error)
    assert taken == ["imagenet", "smmile_mcqa", "smmile_plusplus_mcqa", "star"]
    assert set(refused) == {"hateful_memes", "kinetics700", "rareact", "visdial"}
    assert "hateful_memes: roc_auc cannot be computed from the best candidate only" in refused["hateful_memes"]
    assert "--rank all" in refused["hateful_memes"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("visdial", "imagenet"), "visdial: ndcg cannot be computed from the best candidate only"),
        (("hateful_memes", "kinetics700"), "kinetics700: top1_top5_mean cannot"),
        (("imagenet", "--permutations", "3"), "an average over 3 orders of the shots needs the scores of all"),
        (("vqav2",), "--rank best: vqav2 generates text"),
    ],
)
def test_the_command_line_says_why(words: Sequence[str], message: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["run", *words, "--rank", "best", "--out", str(tmp_path)])
    assert isinstance(done.exception, UsageError)
    assert message in str(done.exception)
    assert not any(tmp_path.iterdir())


def test_unknown_words_are_refused(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["run", "imagenet", "--rank", "bst"])
    assert isinstance(done.exception, UsageError)
    assert "--rank bst: Did you mean 'best'?" in str(done.exception)
    path = tmp_path / "imagenet.yaml"
    path.write_text((shipped("tasks") / "imagenet.yaml").read_text() + "rank: {wanted: first}\n")
    with pytest.raises(ConfigError, match=r"rank\.wanted: expected one of all, best, letter, got 'first'"):
        load_task(path)


@pytest.mark.slow
def test_open_ended_tasks_beside_it_stay_as_they_are() -> None:
    questions, _ = load_questions(["fastbind", "imagenet"], "flamingo")
    text, ranked = (r.spec(NOBODY) for r in plan_runs(questions, Choices(limit=2, rank="best")))
    assert spec_json(text) == spec_json(spec_of("fastbind", limit=2))
    assert ranked.rank.wanted == "best"


def test_a_run_that_needs_all_scores_is_refused_by_the_runner_too(tmp_path: Path) -> None:
    questions, _ = load_questions(["hateful_memes"], "flamingo")
    (planned,) = plan_runs(questions, Choices(limit=2))
    spec = planned.spec(NOBODY)
    spec = replace(spec, task=replace(spec.task, rank=replace(spec.task.rank, wanted="best")))
    with pytest.raises(UsageError, match="roc_auc"):
        run(spec, planned.data, object(), tmp_path)  # type: ignore[arg-type]


# -------------------------------------------------------------------------------------------------------------- records


def test_a_record_spells_out_which_candidates_are_scored() -> None:
    assert spec_json(spec_of("imagenet"))["rank"]["wanted"] == "all"
    assert spec_json(spec_of("imagenet", rank="best"))["prompt"]["rank"]["wanted"] == "best"


def test_a_line_keeps_the_best_candidate_and_its_score() -> None:
    output = Output("7", ("1",), 12, best=Best(417, -3.2109871), score=100.0)
    line = output_line(output)
    assert json.loads(line)["best"] == {"candidate": 417, "score": -3.210987}
    assert parse_output(line) == replace(output, best=Best(417, -3.210987))
    worst = Output("7", (), 12, best=Best(0, float("-inf")))
    assert parse_output(output_line(worst)) == worst
    for wrong in ('{"candidate": -1, "score": 0}', '{"candidate": "a", "score": 0}', '{"candidate": 1}', "3"):
        with pytest.raises((ValueError, KeyError, TypeError)):
            parse_output(f'{{"id": "7", "best": {wrong}}}')


def test_metrics_take_the_best_candidate_for_all_scores() -> None:
    examples = [Example(str(i), (), str(i), target=i % 3, labels={"question_type": "ab"[i % 2]}) for i in range(8)]
    rows = [tuple(float((i * k) % 5) for k in range(7)) for i in range(8)]
    whole = [Prediction(str(i), scores=row) for i, row in enumerate(rows)]
    best = [Prediction(p.id, best=Best(p.chosen or 0, 0.0)) for p in whole]
    for metric in ("top1", "star_mean"):
        ((a,), of_a), ((b,), of_b) = (score_all(p, examples, [MetricSpec(metric)]) for p in (whole, best))
        assert (a.value, a.ci95, of_a) == (b.value, b.ci95, of_b)


def test_star_submits_the_best_candidate_and_visdial_needs_all(tmp_path: Path) -> None:
    star, visdial = (load_task(shipped("tasks") / f"{name}.yaml") for name in ("star", "visdial"))
    example = Example("Sequence_1", (), "v", candidates=("a", "b", "c", "d"), labels={"question_type": "Sequence"})
    split = Split("test", (example,), (), labelled=False)
    best = [Prediction("Sequence_1", best=Best(2, -1.0))]
    path = write_submission(star, split, best, tmp_path / "star.json")
    assert json.loads(path.read_text())["Sequence"] == [{"question_id": "Sequence_1", "answer": 2}]
    with pytest.raises(PredictionError, match="needs 4 scores"):
        write_submission(visdial, split, best, tmp_path / "visdial.json")


def test_the_least_work_of_a_search_is_that_of_the_shortest_candidate() -> None:
    from flamingo_eval.models import read_shape

    _, tokenizer = read_shape("tiny")
    all_, best = spec_of("imagenet"), spec_of("imagenet", rank="best")
    names = ["box moving down", "tench"]  # 3 and 6 tokens
    assert (Reader(tokenizer).tree(names, all_), Reader(tokenizer).tree(names, best)) == (7, 2)
    assert Reader(None).tree(names, best) < Reader(None).tree(names, all_)


def test_episodes_are_the_same(things: Path) -> None:
    """Which shots are drawn does not hang on what is wanted of the candidates."""
    copies = []
    for choice in ("all", "best"):
        questions, _ = load_questions([str(things / f"{choice}.yaml")], "flamingo")
        (planned,) = plan_runs(questions, Choices(data=str(things), shots=(3,)))
        copies.append([(e.query.id, [s.id for s in e.shots]) for e in planned.episodes()])
    assert copies[0] == copies[1]
