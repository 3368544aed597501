"""--dry-run: what runs would cost, counted from their real prompts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from flamingo_eval.api import Model, load_flamingo_model
from flamingo_eval.cli import app
from flamingo_eval.cli.dry_run import duration
from flamingo_eval.models.flops import ModelFlops
from flamingo_eval.prompting.prompts import candidate_text, render
from flamingo_eval.runs.estimate import Estimate, Reader, estimate
from flamingo_eval.runs.plan import Choices, PlannedRun, plan_runs
from flamingo_eval.runs.questions import load_questions


def runs_of(*tasks: str, **choices: Any) -> list[PlannedRun]:
    return plan_runs(load_questions(tasks, "flamingo")[0], Choices(**choices))


@pytest.fixture(scope="module")
def tiny() -> Model:
    return load_flamingo_model("tiny")


@pytest.fixture(scope="module")
def flops(tiny: Model) -> ModelFlops:
    return ModelFlops(tiny.config)


def counted(tiny: Model, flops: ModelFlops, runs: list[PlannedRun], looked_at: int = 200) -> Estimate:
    return estimate(runs, flops, Reader(tiny.tokenizer), looked_at)


@pytest.mark.slow
def test_open_ended_work_is_that_of_the_real_prompts(tiny: Model, flops: ModelFlops) -> None:
    runs = runs_of("vqav2", shots=(2,), seeds=(0, 1), limit=12)
    (work,) = counted(tiny, flops, runs).works
    lengths = [tiny.count_tokens(render(e, runs[0].prompt, runs[0].protocol)) for e in runs[0].episodes()]
    decode = runs[0].decode
    by_hand = sum(
        flops.reading(n) + 3 * flops.visual_keys + decode.beams * decode.max_new_tokens * flops.next_token(n)
        for n in lengths
    )
    assert (work.queries, work.seeds, work.prompts, work.longest) == (12, 2, 24, max(lengths))
    assert work.tokens == pytest.approx(sum(lengths) / 12)
    assert work.flops == pytest.approx(2 * by_hand)
    assert work.official is None  # with --limit nobody asks for the official size


def test_candidates_cost_the_tokens_that_they_do_not_share(tiny: Model, flops: ModelFlops) -> None:
    runs = runs_of("imagenet", shots=(0,), limit=2)
    run = runs[0]
    names = run.data.queries.candidates
    tokens = {tiny.tokenizer.encode_text(candidate_text(n, run.prompt)) for n in names}
    inner = {t[:i] for t in tokens for i in range(1, len(t))}
    assert Reader(tiny.tokenizer).tree(names, run) == len(inner)
    assert Reader(None).tree(names, run) >= len(names)
    assert counted(tiny, flops, runs).works[0].candidates == len(names)


def test_a_picture_is_counted_once_for_all_shots_and_seeds(tiny: Model, flops: ModelFlops) -> None:
    runs = runs_of("vqav2", shots=(1, 4), seeds=(0, 1), limit=10)
    pictures = {m for r in runs for e in r.episodes() for x in (e.query, *e.shots) for m in x.media}
    work = counted(tiny, flops, runs)
    assert work.pictures == len(pictures)
    assert work.picture_flops == len(pictures) * flops.picture()


def test_orders_of_the_shots_multiply_the_prompts(tiny: Model, flops: ModelFlops) -> None:
    plain, six = (
        counted(tiny, flops, runs_of("hateful_memes", shots=(4,), limit=8, permutations=n)).works[0] for n in (None, 6)
    )
    assert (plain.prompts, six.prompts) == (8, 48)
    assert six.flops == pytest.approx(6 * plain.flops)


def test_the_official_size_scales_queries_and_their_pictures(tiny: Model, flops: ModelFlops) -> None:
    total = counted(tiny, flops, runs_of("vqav2", shots=(4,)), looked_at=20)
    (work,) = total.works
    assert work.official == 214_354
    assert work.scale == pytest.approx(214_354 / work.queries)
    support = total.pictures - work.queries  # every query of the sample has a picture of its own
    own = (214_354 + support) * flops.picture()
    assert total.official_flops == pytest.approx(work.flops * work.scale + own)


@pytest.mark.slow
@pytest.mark.parametrize("demos", ["rices", "fixed"])
def test_every_way_of_choosing_shots_can_be_estimated(tiny: Model, flops: ModelFlops, demos: str) -> None:
    assert counted(tiny, flops, runs_of("vqav2", shots=(2,), demos=demos, limit=4)).flops > 0


def invoke(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["run", *arguments])
    return result.exit_code, result.stdout, result.stderr


@pytest.mark.slow
def test_the_command_runs_nothing(tmp_path: Path) -> None:
    code, out, err = invoke("vqav2", "--shots", "0,4", "--limit", "20", "--out", str(tmp_path), "--dry-run")
    assert code == 0, err
    assert "vqav2@sample" in out
    assert "weights" in err
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_shape_without_weights_and_a_price() -> None:
    code, out, err = invoke(
        "vqav2", "--limit", "20", "--model", "openflamingo-9b", "--dry-run", "--tflops", "400", "--price", "2"
    )
    assert code == 0, err
    assert "estimated as four characters per token" in err
    assert "price" in out


@pytest.mark.slow
def test_json_says_the_same() -> None:
    code, out, _ = invoke("vqav2", "--limit", "20", "--dry-run", "--tflops", "1", "--json")
    estimate = json.loads(out)
    assert code == 0
    assert estimate["seconds_at_least"] == pytest.approx(estimate["flops"] / 1e12)
    assert estimate["runs"][0]["queries"] == 20


@pytest.mark.slow
def test_what_is_wrong_is_said() -> None:
    result = CliRunner().invoke(app, ["run", "vqav2", "--price", "2"])
    assert result.exit_code
    assert "--dry-run" in str(result.exception)
    result = CliRunner().invoke(app, ["run", "vqav2", "--model", "nowhere", "--dry-run", "--tflops", "1"])
    assert "nowhere: there is no such folder" in str(result.exception)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "0.2 s"), (120, "2.0 min"), (7200, "2.0 h"), (864_000, "10.0 days")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
