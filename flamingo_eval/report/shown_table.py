"""A table of the page: cells with what they sort by, a tooltip, a smaller text beside."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ShownCell:
    """A table cell: its text, a smaller text beside it, what it sorts by, a tooltip, a text for phones, a colour."""

    text: str
    sort: str
    small: str = ""
    about: str = ""
    detail: str = ""
    swatch: int | None = None
    verdict: str = ""  # the cell as a sentence on a coloured ground: good, warn or plain


@dataclass(frozen=True, slots=True)
class ShownRow:
    cells: tuple[ShownCell, ...]
    published: bool = False


@dataclass(frozen=True, slots=True)
class ShownTable:
    """A sortable table; columns from `numbers_from` on hold numbers, those before `names` give way on a phone."""

    caption: str
    titles: tuple[str, ...]
    rows: tuple[ShownRow, ...]
    numbers_from: int
    above: str = ""  # a line over the table
    names: int = 0
