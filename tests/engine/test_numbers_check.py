"""A model that computes no numbers gives failed queries, never an answer or a score."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from flamingo_eval import DecodeSpec, Prompt, RankSpec
from flamingo_eval.api import Model
from flamingo_eval.engine import Engine, PlainEngine
from flamingo_eval.engine.embedding import ModelEncoder
from flamingo_eval.errors import ModelError, PromptError
from flamingo_eval.records import Answer, Pixels
from tests.support.small_flamingo import SMALL, picture, save_small

GENERATE = DecodeSpec(beams=2, max_new_tokens=4)
MANY = ["a", "ab", "abc", "abd", "xyz", "b"]


@pytest.fixture
def model(tmp_path: Path) -> Model:
    return Model.load(save_small(tmp_path))


def last_norm_weight(model: Model) -> torch.Tensor:
    norm = model.flamingo.decoder.norm
    assert norm is not None
    return norm.get_parameter("weight")


def answers(engine: Engine | PlainEngine, prompts: list[Prompt]) -> list[list[Answer]]:
    """What `generate`, `score` and `best` say to the prompts."""
    lists = [MANY] * len(prompts)
    generated = (engine.generate(prompts, GENERATE), engine.score(prompts, lists, RankSpec()))
    return [
        [a for _, a in sorted(x, key=lambda pair: pair[0])]
        for x in (*generated, engine.best(prompts, lists, RankSpec()))
    ]


@pytest.mark.slow
@pytest.mark.parametrize("engine_of", [Engine, PlainEngine])
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_logits_that_are_no_numbers_fail_every_query(
    model: Model, engine_of: Callable[[Model], Any], value: float
) -> None:
    last_norm_weight(model)[3] = value
    engine = engine_of(model)
    for row in answers(engine, [Prompt(["a cat"], "one"), Prompt([picture(0), "a dog"], "two")]):
        for answer, id in zip(row, ("one", "two"), strict=True):
            assert (answer.text, answer.scores, answer.best) == (None, None, None)
            assert isinstance(answer.error, ModelError)
            assert f"{id}: the model's results are NaN in float32" in str(answer.error)
            assert "A weight is damaged" in str(answer.error)
    assert engine.stats["failed"] == 6
    assert engine.stats["prompts"] == 0


def test_a_row_of_the_batch_that_is_lost_leaves_the_others_as_they_are(model: Model) -> None:
    good, bad = Prompt(["a cat"], "good"), Prompt(["a \x01at"], "bad")
    (id,) = set(model.encode(bad).ids) - set(model.encode(good).ids)
    alone = [row[0] for row in answers(Engine(model), [good])]
    model.flamingo.decoder.embedding.weight[id] = torch.nan
    model.flamingo.decoder.head = torch.nn.Linear(32, 258, bias=False)  # or every logit of that token would be NaN
    model.flamingo.decoder.head.weight.data = torch.nan_to_num(model.flamingo.decoder.embedding.weight)
    for row, before in zip(answers(Engine(model), [good, bad]), alone, strict=True):
        assert isinstance(row[1].error, ModelError)
        assert row[0].error is None
        assert (row[0].text is None) == (before.text is None)


@pytest.mark.slow
@pytest.mark.parametrize("engine_of", [Engine, PlainEngine])
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_visual_tokens_that_are_no_numbers(model: Model, engine_of: Callable[[Model], Any], value: float) -> None:
    broken = Pixels(torch.full((3, 16, 16), value))
    prompts = [Prompt([broken, "a cat"], "one"), Prompt([picture(0), "a dog"], "two")]
    for row in answers(engine_of(model), prompts):
        assert isinstance(row[0].error, ModelError)
        assert "visual tokens" in str(row[0].error)
        assert row[1].error is None
    with pytest.raises(ModelError, match="visual tokens"):
        ModelEncoder(model).embed_media([broken])  # type: ignore[list-item]


@pytest.mark.parametrize("engine_of", [Engine, PlainEngine])
def test_candidates_that_are_all_minus_infinity_have_no_best_one(
    tmp_path: Path, engine_of: Callable[[Model], Any]
) -> None:
    decoder = dataclasses.replace(SMALL.decoder, head_rows=257)  # <EOC> was never given an output row
    model = Model.load(save_small(tmp_path, dataclasses.replace(SMALL, decoder=decoder)))
    rank = RankSpec(end_of_chunk=True)
    for ask in (engine_of(model).score, engine_of(model).best):
        ((_, answer),) = ask([Prompt(["a cat"], "one")], [["yes", "no"]], rank)
        assert "one: all candidates score minus infinity" in str(answer.error)
        ((_, answer),) = ask([Prompt(["a cat"], "one")], [["yes", "no"]], RankSpec())
        assert answer.error is None


def test_the_hint_depends_on_the_type(model: Model) -> None:
    last_norm_weight(model)[3] = torch.nan
    for dtype, hint in ((torch.float16, "use --dtype bfloat16 or float32"), (torch.bfloat16, "Try --dtype float32")):
        model.flamingo.to(dtype)
        ((_, answer),) = Engine(model).generate([Prompt(["a"], "one")], GENERATE)
        assert hint in str(answer.error)
        assert json.dumps(str(answer.error)).count("NaN") == 1


@pytest.mark.parametrize("engine_of", [Engine, PlainEngine])
@pytest.mark.parametrize("parts", [[], [""]])
def test_an_empty_prompt_is_a_named_problem(model: Model, engine_of: Callable[[Model], Any], parts: list[str]) -> None:
    for row in answers(engine_of(model), [Prompt(parts, "one")]):
        assert isinstance(row[0].error, PromptError)
        assert "one: the prompt is empty" in str(row[0].error)
    with pytest.raises(PromptError, match="the prompt is empty"):
        model.logits(Prompt(parts))
    assert not ModelEncoder(model).embed_text([""]).any()
