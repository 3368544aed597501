"""Candidates as choices with letters: `A. a dog`, one per line; and the choice for a letter.

Choices are in the order of the data (STAR: choice_id; Hateful Memes: no, yes). A demonstration's letter is that of its
answer, among its own choices.
"""

from __future__ import annotations

import string
from collections.abc import Sequence

from flamingo_eval.errors import PromptError
from flamingo_eval.records import Example

LETTERS = string.ascii_uppercase


def listed(choices: Sequence[str]) -> str:
    """`A. no`, `B. yes`: one line per choice, at most 26."""
    return "\n".join(f"{letter}. {choice}" for letter, choice in zip(LETTERS, choices, strict=False))


def letter_of(example: Example, choices: Sequence[str]) -> str:
    """The letter of an example's answer. Raises PromptError if it is not one of the choices."""
    if example.target is not None and choices[example.target] == example.answer:
        return LETTERS[example.target]
    if example.answer in choices:
        return LETTERS[choices.index(example.answer)]
    raise PromptError(f"example {example.id}: its answer {example.answer[:60]!r} is not one of its choices.")


def choice_of(letter: str, n: int) -> int | None:
    """The index of a letter's choice among `n` choices; None without a letter or for a letter after the last."""
    place = LETTERS.find(letter) if letter else -1
    return place if 0 <= place < n else None
