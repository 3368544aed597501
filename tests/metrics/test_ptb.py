"""The caption tokenizer keeps captions apart, whatever they hold."""

from __future__ import annotations

import pytest

from flamingo_eval.metrics.ptb import tokenise

ODD = ["\x00", "\r", "\v", "\f", "\x1c", "\x85", "\u2028", "\u2029", "\ud800", "\u200f", "\U0001f600"]


def test_odd_characters_do_not_shift_later_captions(java: None) -> None:
    captions = [f"mark{i} {c} a\ncat" for i, c in enumerate(ODD)]
    tokens = tokenise(captions)
    assert [s.split()[0] for s in tokens] == [f"mark{i}" for i in range(len(ODD))]
    assert all(s.endswith("a cat") for s in tokens)


@pytest.mark.slow
@pytest.mark.parametrize("captions", [[""], ["", "", "a dog"], ["a dog", "", " "], ["\n", "", "\t"]])
def test_empty_captions_stay_in_their_place(java: None, captions: list[str]) -> None:
    assert tokenise(captions) == [c.strip() for c in captions]


def test_no_captions_need_no_java() -> None:
    assert tokenise([]) == []
