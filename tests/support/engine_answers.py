"""Prompts of every shape for the engine, and its answers."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

from flamingo_eval import END_OF_CHUNK, DecodeSpec, Prompt, RankSpec
from flamingo_eval.api import Model
from flamingo_eval.engine import Engine, PlainEngine
from flamingo_eval.records import Part
from tests.support.candidates import best
from tests.support.small_flamingo import picture

DEVICE_FAMILIES: dict[str, dict[str, object]] = {
    "relative": {"positions": "relative"},
    "alibi, short convolution": {"positions": "alibi", "norm": "layernorm", "short_conv": 3},
    "learned": {"positions": "learned", "position_offset": 2, "qkv_bias": True, "tied_head": False},
    "rotary, grouped queries": {"positions": "rotary", "rotary_dim": 8, "kv_heads": 2, "gated_ff": True},
}
PICTURES = [picture(seed) for seed in range(5)] + [picture(9, frames=2), picture(10, frames=3)]


def some_prompts(n: int, seed: int = 0) -> list[Prompt]:
    """Prompts of many lengths, with no, one or several pictures, with text before, between and after them."""
    random_ = random.Random(seed)
    prompts = []
    for i in range(n):
        parts: list[Part] = ["Text first. "] if random_.random() < 0.3 else []
        for _ in range(random_.randrange(4)):
            parts += [random_.choice(PICTURES)] if random_.random() < 0.8 else []
            parts += ["ab" * random_.randrange(1, 8), END_OF_CHUNK]
        parts += [random_.choice(PICTURES)] if random_.random() < 0.8 else []
        parts += ["Q" * random_.randrange(1, 20)]
        prompts.append(Prompt(parts, id=f"q{i}"))
    return prompts


def texts(engine: Engine | PlainEngine, prompts: Sequence[Prompt], spec: DecodeSpec) -> list[str | None]:
    answers_by_index = dict(engine.generate(iter(prompts), spec))
    assert sorted(answers_by_index) == list(range(len(prompts)))
    return [answers_by_index[i].text for i in range(len(prompts))]


def scores(
    engine: Engine, prompts: Sequence[Prompt], candidates: Sequence[Sequence[str]], rank: RankSpec
) -> list[tuple[float, ...] | None]:
    answers_by_index = dict(engine.score(iter(prompts), iter(candidates), rank))
    assert sorted(answers_by_index) == list(range(len(prompts)))
    return [answers_by_index[i].scores for i in range(len(prompts))]


def answers(
    model: Model, prompts: Sequence[Prompt], ranked: Sequence[Prompt], names: Sequence[Sequence[str]]
) -> tuple[list[str | None], list[tuple[float, ...] | None], list[int], Mapping[str, Any]]:
    """Texts, scores, the best candidates, and the engine's counters."""
    engine, rank = Engine(model, batch_size=4), RankSpec(normalise="mean")
    answer_texts = texts(engine, prompts, DecodeSpec(beams=3, max_new_tokens=6))
    answer_texts += texts(engine, prompts, DecodeSpec(beams=3, max_new_tokens=10))  # long enough to be recorded on CUDA
    candidates = [b.candidate for b in best(engine, ranked, names, rank)]
    return answer_texts, scores(engine, ranked, names, rank), candidates, engine.stats
