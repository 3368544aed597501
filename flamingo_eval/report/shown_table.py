"""A table of the page: cells with a sort value, a tooltip and a smaller second text."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ShownCell:
    """A table cell: its text, a smaller second text, a sort value, a tooltip, a text for phones, a colour."""

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
    """A sortable table; columns from `numbers_from` on are numbers, those before `names` are hidden on a phone."""

    caption: str
    titles: tuple[str, ...]
    rows: tuple[ShownRow, ...]
    numbers_from: int
    above: str = ""  # a line over the table
    names: int = 0
