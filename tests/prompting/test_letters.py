"""Choices with letters: what is listed, which letter a demonstration shows, and how an answer is read."""

from __future__ import annotations

import pytest

from flamingo_eval.errors import PromptError
from flamingo_eval.prompting.answer_rules import letter
from flamingo_eval.prompting.letters import choice_of, letter_of, listed
from flamingo_eval.records import Example


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("B", "B"),
        (" b.", "B"),
        ("(C)", "C"),
        ("**D**", "D"),
        ("B) a dog", "B"),
        ("B: a dog", "B"),
        ("B\nbecause it barks", "B"),
        ("B a dog", "B"),
        ("Answer: B", "B"),
        ("The correct answer is (A).", "A"),
        ("The answer is b", "B"),
        ("`A`", "A"),
        ("A dog", ""),
        ("I see a dog", ""),
        ("a dog", ""),
        ("dog", ""),
        ("U.S. flag", ""),
        ("", ""),
        ("it is B", ""),
    ],
)
def test_the_letter_that_an_answer_begins_with_is_read(text: str, read: str) -> None:
    assert letter(text) == read


def test_choices_stand_one_a_line_and_a_letter_names_one_of_them() -> None:
    assert listed(("no", "yes")) == "A. no\nB. yes"
    assert [choice_of(text, 2) for text in ("A", "B", "C", "")] == [0, 1, None, None]


def test_a_demonstration_shows_the_letter_of_the_answer_it_shows() -> None:
    shot = Example("1", (), "1", answer="yes", target=1)
    assert letter_of(shot, ("no", "yes")) == "B"
    other = Example("1", (), "1", answer="no", target=1)  # after labels-shuffled
    assert letter_of(other, ("no", "yes")) == "A"
    same_text = Example("1", (), "1", answer="left", target=2)
    assert letter_of(same_text, ("left", "up", "left")) == "C"
    with pytest.raises(PromptError, match="not one of its choices"):
        letter_of(shot, ("no", "perhaps"))
