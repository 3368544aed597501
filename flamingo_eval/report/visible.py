"""Makes text from a model or a data set safe to display: no invisible characters, none that reorder the line."""

from __future__ import annotations

import unicodedata

LONGEST = 4000  # characters of one text on the page
_KEPT = {"\n", "\t", "\u200c", "\u200d"}  # joiners are part of emoji and of several scripts
_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def visible(text: str, longest: int = LONGEST) -> str:
    """The text with control, format, bidirectional, unassigned and surrogate characters spelled out as ⟨U+202E⟩.

    Texts longer than `longest` are truncated, with a note.
    """
    spelled = "".join(_spelled(c) for c in text[:longest])
    return spelled if len(text) <= longest else f"{spelled}… ({len(text):,} characters)"


def _spelled(c: str) -> str:
    if c.isascii() and c.isprintable():
        return c
    if c in _KEPT or unicodedata.category(c) not in _HIDDEN:
        return c
    return f"⟨U+{ord(c):04X}⟩"
