"""The engine against the plain reference, one prompt at a time, over mixtures of all that could leave a trace."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from flamingo_eval import END_OF_CHUNK, DecodeSpec, Image, Prompt, RankSpec
from flamingo_eval.api import Model
from flamingo_eval.engine import Engine, PlainEngine, build_engine, reference
from flamingo_eval.engine import prefill as prefill_module
from flamingo_eval.engine.picture_attention import read as read_tokens
from flamingo_eval.errors import MediaError, PromptError, UsageError
from flamingo_eval.models.config import PoolingConfig
from flamingo_eval.models.flamingo import Flamingo
from flamingo_eval.records import Answer, Part, Pixels, best_of
from tests.support.engine_answers import PICTURES, scores, some_prompts, texts
from tests.support.slow import first_and_slow
from tests.support.small_flamingo import SMALL, save_small

FAMILIES: dict[str, dict[str, Any]] = {
    "relative": {"positions": "relative"},
    "rotary, short convolution": {"positions": "rotary", "rotary_dim": 4, "short_conv": 3},
    "alibi": {"positions": "alibi", "norm": "layernorm", "qk_norm": True},
    "learned": {"positions": "learned", "position_offset": 2, "qkv_bias": True, "out_bias": True, "ff_bias": True},
    "grouped queries": {"positions": "rotary", "rotary_dim": 8, "kv_heads": 2, "gated_ff": True, "tied_head": False},
    "parallel": {"positions": "rotary", "rotary_dim": 4, "parallel": True, "shared_norm": True},
}


def family(folder: Path, name: str) -> Model:
    decoder = dataclasses.replace(SMALL.decoder, context=128, **FAMILIES[name])
    return Model.load(save_small(folder, dataclasses.replace(SMALL, decoder=decoder), seed=len(name)))


@pytest.fixture(scope="module", params=first_and_slow(FAMILIES))
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Model:
    return family(tmp_path_factory.mktemp("family"), request.param)


# ---------------------------------------------------------------------------------------------------- same answers


@pytest.mark.slow
@pytest.mark.parametrize("beams", [1, 3])
def test_generates_what_the_reference_generates(model: Model, beams: int) -> None:
    prompts = some_prompts(14, seed=beams)
    spec = DecodeSpec(beams=beams, max_new_tokens=6)
    expected = [reference.generate(model, p, spec) for p in prompts]
    assert texts(Engine(model, batch_size=4), prompts, spec) == expected


@pytest.mark.slow
def test_scores_what_the_reference_scores(model: Model) -> None:
    prompts = some_prompts(10, seed=7)
    lists = [["a", "ab", "abc", "abd", "xyz", "b"], ["only one"], ["yes", "no"]]
    candidates = [lists[i % 3] for i in range(len(prompts))]
    for rank in (RankSpec(), RankSpec(normalise="mean", end_of_chunk=True)):
        expected = [reference.score(model, p, c, rank) for p, c in zip(prompts, candidates, strict=True)]
        for row, right in zip(scores(Engine(model, batch_size=3), prompts, candidates, rank), expected, strict=True):
            assert row == pytest.approx(right, abs=1e-4)


def test_averages_in_the_resamplers_place(tmp_path: Path) -> None:
    model = Model.load(save_small(tmp_path, dataclasses.replace(SMALL, resampler=PoolingConfig(side=2)), seed=1))
    prompts, spec = some_prompts(8, seed=4), DecodeSpec(beams=2, max_new_tokens=5)
    assert texts(Engine(model), prompts, spec) == [reference.generate(model, p, spec) for p in prompts]


@pytest.mark.slow
def test_a_model_that_sees_all_pictures_is_answered_for_plainly(tmp_path: Path) -> None:
    xattn = dataclasses.replace(SMALL.xattn, sees="all")
    model = Model.load(save_small(tmp_path, dataclasses.replace(SMALL, xattn=xattn), seed=1))
    a, b, c = PICTURES[:3]
    first, other = (model.logits(Prompt([p, END_OF_CHUNK, b, "x"]))[-1] for p in (a, c))
    assert not torch.allclose(first, other)
    with pytest.raises(ValueError, match="attends to all pictures"):
        Engine(model)
    engine, spec, rank = build_engine(model), DecodeSpec(beams=2, max_new_tokens=4), RankSpec()
    assert isinstance(engine, PlainEngine)
    prompts = [*some_prompts(4, seed=2), Prompt(["Q" * 100], id="long")]
    answers = dict(engine.generate(prompts, spec))
    assert [answers[i].text for i in range(4)] == [reference.generate(model, p, spec) for p in prompts[:4]]
    assert "long: 104 tokens with the answer" in str(answers[4].error)
    names = ["a", "bc", "b"]
    expected = [reference.score(model, p, names, rank) for p in prompts[:4]]
    assert model.score(prompts[:4], [names] * 4, rank) == expected
    assert [candidate for candidate, _ in model.best(prompts[:4], [names] * 4, rank)] == [best_of(s) for s in expected]
    assert engine.stats["prompts"] == 4
    assert engine.stats["failed"] == 1
    engine.close()


@pytest.mark.slow
def test_batch_size_order_and_neighbours_leave_no_trace(model: Model) -> None:
    """Not to rounding: bit by bit."""
    prompts = some_prompts(12, seed=3)
    candidates = [["a", "ab", "b", "longer one"]] * len(prompts)
    spec, rank = DecodeSpec(beams=3, max_new_tokens=5), RankSpec()
    alone = [texts(Engine(model, batch_size=1), [p], spec)[0] for p in prompts]
    alone_scores = [scores(Engine(model, batch_size=1), [p], candidates[:1], rank)[0] for p in prompts]
    for size in (2, 16):
        assert texts(Engine(model, batch_size=size), prompts, spec) == alone
        assert scores(Engine(model, batch_size=size), prompts, candidates, rank) == alone_scores
    assert texts(Engine(model), prompts[::-1], spec) == alone[::-1]
    assert scores(Engine(model), prompts[::-1], candidates, rank) == alone_scores[::-1]


def test_a_long_list_of_candidates_is_scored_in_pieces(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"{a}{b}{c}" for a in "abc" for b in "xyz" for c in ("", "1", "22")]
    prompt = some_prompts(1)[0]
    whole = scores(Engine(model), [prompt], [names], RankSpec())[0]
    monkeypatch.setattr(prefill_module, "LM_HEAD_ROWS", 3)
    pieces = scores(Engine(model), [prompt], [names], RankSpec())[0]
    assert pieces == pytest.approx(whole, abs=1e-5)
    assert whole == pytest.approx(reference.score(model, prompt, names, RankSpec()), abs=1e-4)


@pytest.mark.slow
def test_fixed_demonstrations_are_read_once(model: Model) -> None:
    """Two sets of them, taking turns; and a prompt that shares nothing."""
    prefixes: list[list[Part]] = [
        [PICTURES[0], "first shot" * i, END_OF_CHUNK, PICTURES[5], "b" * 20, END_OF_CHUNK] for i in (2, 3)
    ]
    prompts = [Prompt([*prefixes[i % 2], PICTURES[i % 4], "Q" * (i + 1)], id=f"q{i}") for i in range(10)]
    prompts.insert(4, Prompt(["no picture, but long enough to be a head"]))
    spec, rank, names = DecodeSpec(beams=2, max_new_tokens=4), RankSpec(), ["a", "ab", "cd"]
    engine = Engine(model, batch_size=3)
    assert texts(engine, prompts, spec) == [reference.generate(model, p, spec) for p in prompts]
    rows = scores(engine, prompts, [names] * len(prompts), rank)
    for row, prompt in zip(rows, prompts, strict=True):
        assert row == pytest.approx(reference.score(model, prompt, names, rank), abs=1e-4)
    assert engine.stats["heads"] == 2
    assert scores(Engine(model, batch_size=16), prompts, [names] * len(prompts), rank) == rows


@pytest.mark.slow
@pytest.mark.parametrize("common", [True, False])
def test_a_resumed_run_gives_the_same_numbers(model: Model, common: bool) -> None:
    """What is left of a run is answered without its neighbours; the beginning they share must leave no trace."""
    shots: list[Part] = [PICTURES[0], "first shot" * 2, END_OF_CHUNK, PICTURES[5], "b" * 20, END_OF_CHUNK]
    prompts = [
        Prompt([*shots, PICTURES[i % 4], "Q" * (i + 1)], id=f"q{i}", common_prefix=common and i < 4) for i in range(5)
    ]
    names = ["a", "ab", "cd"]
    whole = scores(Engine(model), prompts, [names] * len(prompts), RankSpec())
    for i, prompt in enumerate(prompts):
        assert scores(Engine(model), [prompt], [names], RankSpec()) == [whole[i]]


@pytest.mark.slow
def test_bfloat16_agrees_to_its_rounding(tmp_path: Path) -> None:
    exact = family(tmp_path / "exact", "rotary, short convolution")
    rounded = Model.load(exact.folder, dtype="bfloat16")
    prompts = some_prompts(4, seed=5)
    for row, right in zip(
        scores(Engine(rounded), prompts, [["a", "bc"]] * 4, RankSpec()),
        scores(Engine(exact), prompts, [["a", "bc"]] * 4, RankSpec()),
        strict=True,
    ):
        assert row == pytest.approx(right, rel=0.05)


# ------------------------------------------------------------------------------------------------- what is shared, lost


@pytest.fixture
def small(tmp_path: Path) -> Model:
    return Model.load(save_small(tmp_path / "small"))


def test_each_picture_is_encoded_once(small: Model) -> None:
    engine = Engine(small, batch_size=2)
    prompts = [Prompt([PICTURES[i % 2], "a", END_OF_CHUNK, PICTURES[2], "b"]) for i in range(6)]
    texts(engine, prompts, DecodeSpec(beams=2, max_new_tokens=2))
    texts(engine, prompts, DecodeSpec(beams=1, max_new_tokens=3))
    assert engine.stats["pictures_encoded"] == 3
    assert engine.stats["vision_cache"]["hit_rate"] > 0.5
    assert engine.stats["prompts"] == 12


def test_a_second_run_encodes_nothing(small: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLAMINGO_EVAL_CACHE", str(tmp_path / "cache"))
    prompts = some_prompts(6)
    first, second = build_engine(small, "2", workers=0), build_engine(small, "3", workers=0)
    spec = DecodeSpec(beams=2, max_new_tokens=3)
    assert texts(first, prompts, spec) == texts(second, prompts, spec)
    assert (first.stats["pictures_encoded"] > 0, second.stats["pictures_encoded"]) == (True, 0)


def test_bad_prompts_are_answers_with_errors(small: Model, tmp_path: Path) -> None:
    good = some_prompts(3)
    prompts = [good[0], Prompt(["x" * 100], id="long"), good[1], Prompt([Image(tmp_path / "gone.png"), "y"]), good[2]]
    prompts.append(Prompt([Pixels(torch.zeros(3, 4, 4)), "y"]))
    answers = dict(Engine(small, batch_size=4).generate(iter(prompts), DecodeSpec(max_new_tokens=3)))
    kinds = [type(answers[i].error) for i in range(6)]
    assert kinds == [type(None), PromptError, type(None), MediaError, type(None), MediaError]
    assert "long: 100 tokens" not in str(answers[1].error)
    assert "long: 103 tokens with the answer" in str(answers[1].error)
    assert "gone.png" in str(answers[3].error)
    assert [answers[i].text is None for i in range(6)] == [False, True, False, True, False, True]


def test_empty_candidates_are_named(small: Model) -> None:
    answers = dict(Engine(small).score(iter(some_prompts(2)), iter([["a", ""], []]), RankSpec()))
    assert "q0: an empty candidate cannot be scored: ''" in str(answers[0].error)
    assert "q1: there are no candidates" in str(answers[1].error)


def test_memory_that_does_not_suffice_halves_the_batch(small: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    prompts = [Prompt([PICTURES[0], "same length", str(i)]) for i in range(8)]
    spec = DecodeSpec(beams=1, max_new_tokens=2)
    expected = texts(Engine(small, batch_size=8), prompts, spec)

    def scarce(flamingo: Flamingo, tokens: torch.Tensor, *rest: Any) -> torch.Tensor:
        if len(tokens) > 3 and tokens.shape[1] > 1:
            raise torch.OutOfMemoryError
        return read_tokens(flamingo, tokens, *rest)

    monkeypatch.setattr(prefill_module, "read", scarce)
    engine = Engine(small, batch_size=8)
    assert texts(engine, prompts, spec) == expected
    assert engine.stats["memory_halvings"] > 0
    assert engine.stats["batch_size"] < 4
    monkeypatch.setattr(prefill_module, "read", lambda *_: (_ for _ in ()).throw(torch.OutOfMemoryError()))
    lost = dict(Engine(small).generate(iter(prompts[:2]), spec))
    assert all("do not fit in memory" in str(a.error) for a in lost.values())


def test_prompts_are_taken_as_they_are_needed(small: Model) -> None:
    taken = 0

    def endless() -> Iterator[Prompt]:
        nonlocal taken
        while True:
            taken += 1
            yield Prompt(["a" * (taken % 30 + 1)], id=str(taken))

    answers = Engine(small, batch_size=2).generate(endless(), DecodeSpec(beams=1, max_new_tokens=1))
    some = [next(answers) for _ in range(40)]
    assert all(isinstance(answer, Answer) for _, answer in some)
    assert taken < 80


def test_batch_size_is_a_number_or_auto(small: Model) -> None:
    for wrong in ("0", "many", "-1"):
        with pytest.raises(UsageError, match="--batch-size"):
            build_engine(small, wrong)
    assert build_engine(small, "7").stats["batch_size"] == 7
