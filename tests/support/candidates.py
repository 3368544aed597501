"""Candidate names to rank, and the engine's best of them."""

from __future__ import annotations

import random
from collections.abc import Sequence

from flamingo_eval import Prompt, RankSpec
from flamingo_eval.engine import Engine
from flamingo_eval.records import Best


def some_names(n: int, seed: int, shortest: int = 1) -> list[str]:
    """Names of up to 6 letters, some the beginning of others, some twice."""
    drawn = random.Random(seed)
    names = ["".join(drawn.choice("abcd") for _ in range(drawn.randrange(shortest, 7))) for _ in range(n)]
    return [*names, names[0], names[n // 2], *(name[:-1] for name in names[:9] if len(name) > shortest)]


def best(engine: Engine, prompts: Sequence[Prompt], names: Sequence[Sequence[str]], rank: RankSpec) -> list[Best]:
    answers = dict(engine.best(iter(prompts), iter(names), rank))
    assert sorted(answers) == list(range(len(prompts)))
    return [answer.best for _, answer in sorted(answers.items()) if answer.best is not None]
