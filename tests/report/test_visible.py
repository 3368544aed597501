"""Hostile and odd texts, made visible."""

from __future__ import annotations

import pytest

from flamingo_eval.report.visible import visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a cat", "a cat"),
        ("Katze, 猫, قطة, 👩‍🚀\n\ttab", "Katze, 猫, قطة, 👩‍🚀\n\ttab"),
        ("\u202eevil\u2066", "⟨U+202E⟩evil⟨U+2066⟩"),
        ("a\x00b\x1b[2J\r", "a⟨U+0000⟩b⟨U+001B⟩[2J⟨U+000D⟩"),
        ("\ud800", "⟨U+D800⟩"),
        ("\u200f\ufeff\u2028\ufdd0\ue000", "⟨U+200F⟩⟨U+FEFF⟩⟨U+2028⟩⟨U+FDD0⟩⟨U+E000⟩"),
        ("<script>", "<script>"),  # escaping is the template's part
    ],
)
def test_nothing_is_invisible_or_reorders_the_line(text: str, shown: str) -> None:
    assert visible(text) == shown
    assert visible(text).encode("utf-8")


def test_long_texts_are_cut_and_say_so() -> None:
    assert visible("x" * 20, longest=5) == "xxxxx… (20 characters)"
