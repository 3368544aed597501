"""An engine yields answers in any order; these functions put them in the order of the prompts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

from flamingo_eval.config.specs import RankSpec
from flamingo_eval.errors import PromptError
from flamingo_eval.records import Answer, Prompt


class Ranker(Protocol):
    """What ranks candidates: every engine."""

    def score(
        self, prompts: Sequence[Prompt], candidates: Sequence[Sequence[str]], spec: RankSpec
    ) -> Iterator[tuple[int, Answer]]: ...

    def best(
        self, prompts: Sequence[Prompt], candidates: Sequence[Sequence[str]], spec: RankSpec
    ) -> Iterator[tuple[int, Answer]]: ...


def all_scores(
    engine: Ranker, prompts: Sequence[Prompt], candidates: Sequence[Sequence[str]], rank: RankSpec | None
) -> list[list[float]]:
    """The log-likelihood of each candidate, one list per prompt. Raises the error of the first prompt that has one."""
    check_pairs(prompts, candidates)
    answers = dict(engine.score(prompts, candidates, rank or RankSpec()))
    return [list(a.scores or ()) for a in in_order(answers)]


def best_candidates(
    engine: Ranker, prompts: Sequence[Prompt], candidates: Sequence[Sequence[str]], rank: RankSpec | None
) -> list[tuple[int, float]]:
    """Index and score of each prompt's best candidate. Raises the error of the first prompt that has one."""
    check_pairs(prompts, candidates)
    answers = in_order(dict(engine.best(prompts, candidates, rank or RankSpec())))
    return [(a.best.candidate, a.best.score) for a in answers if a.best is not None]


def check_pairs(prompts: Sequence[Prompt], candidates: Sequence[Sequence[str]]) -> None:
    """Raise PromptError unless there is one list of candidates for each prompt."""
    if len(prompts) != len(candidates):
        raise PromptError(f"{len(prompts)} prompts, but candidates for {len(candidates)}.")


def in_order(answers: Mapping[int, Answer]) -> list[Answer]:
    """Answers by index. Raises the error of the first prompt that has one."""
    ordered = [answers[i] for i in sorted(answers)]
    for answer in ordered:
        if answer.error is not None:
            raise answer.error
    return ordered
