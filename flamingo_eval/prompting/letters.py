"""Candidates as lettered choices: `A. a dog`, one a line, and which of them a letter stands for.

Choices stand in the order of the data (STAR: choice_id; Hateful Memes: no, yes). A demonstration's letter is that of
the answer it shows, among its own choices.
"""

from __future__ import annotations

import string
from collections.abc import Sequence

from flamingo_eval.errors import PromptError
from flamingo_eval.records import Example

LETTERS = string.ascii_uppercase


def listed(choices: Sequence[str]) -> str:
    """`A. no`, `B. yes`: one line a choice. At most 26 of them."""
    return "\n".join(f"{letter}. {choice}" for letter, choice in zip(LETTERS, choices, strict=False))


def letter_of(example: Example, choices: Sequence[str]) -> str:
    """The letter of the answer that an example shows. Raises PromptError where it is none of the choices."""
    if example.target is not None and choices[example.target] == example.answer:
        return LETTERS[example.target]
    if example.answer in choices:
        return LETTERS[choices.index(example.answer)]
    raise PromptError(f"example {example.id}: its answer {example.answer[:60]!r} is none of its choices.")


def choice_of(letter: str, n: int) -> int | None:
    """The index that a letter stands for among `n` choices; None for no letter and for one beyond the last."""
    place = LETTERS.find(letter) if letter else -1
    return place if 0 <= place < n else None
