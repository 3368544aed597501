"""What a model or a dataset wrote, made harmless to look at: nothing invisible, nothing that reorders the line."""

from __future__ import annotations

import unicodedata

LONGEST = 4000  # characters of one text on the page
_KEPT = {"\n", "\t", "\u200c", "\u200d"}  # the joiners belong to emoji and to several scripts
_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def visible(text: str, longest: int = LONGEST) -> str:
    """The text with control, format, bidirectional, unassigned and surrogate characters spelled out as ⟨U+202E⟩.

    Longer texts than `longest` are cut, and say so.
    """
    spelled = "".join(_spelled(c) for c in text[:longest])
    return spelled if len(text) <= longest else f"{spelled}… ({len(text):,} characters)"


def _spelled(c: str) -> str:
    if c.isascii() and c.isprintable():
        return c
    if c in _KEPT or unicodedata.category(c) not in _HIDDEN:
        return c
    return f"⟨U+{ord(c):04X}⟩"
