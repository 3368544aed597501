"""An engine yields answers in any order; these functions put them in the order of the prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from flamingo_eval.errors import PromptError
from flamingo_eval.records import Answer, Prompt


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
