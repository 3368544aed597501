"""A table of results as lines of text, for a terminal of any width.

Columns with one value in all rows move into a line above the table. Shot columns that do not fit go into a second block
below the first, with the names of the rows repeated. On very narrow screens each row is a heading with its numbers
below it. Nothing is truncated.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.cells import cell_len

from flamingo_eval.report.cells import NUMBERS_FROM, header, lines, name_columns
from flamingo_eval.report.tables import Row, Table
from flamingo_eval.runs.folder import BELOW

GAP = "  "
LEAST_LABEL = 12  # minimum width of a folded name


@dataclass(frozen=True, slots=True)
class _Grid:
    """Names and numbers of a table as text, without columns that have one value in all rows."""

    constants: tuple[str, ...]
    titles: tuple[str, ...]
    names: tuple[tuple[str, ...], ...]  # by row
    shots: tuple[str, ...]
    numbers: tuple[tuple[str, ...], ...]  # by row


def text_table(table: Table, width: int | None = None) -> str:
    """The table within `width` cells; without a limit if None (a pipe, a file)."""
    grid = _grid(table)
    limit = width or 10**6
    blocks = _blocks(grid, limit)
    body = _stacked(grid, limit) if blocks is None else _side_by_side(grid, blocks, limit)
    constants = textwrap.wrap(", ".join(grid.constants), limit, break_on_hyphens=False)
    return "\n".join(line.rstrip() for line in (*constants, *([""] if constants else []), *body)) + "\n"


def _grid(table: Table) -> _Grid:
    titles, cells = header(table), lines(table)
    constants, columns = name_columns(table)
    names = tuple(_names(row, cells[i], columns) for i, row in enumerate(table.rows))
    return _Grid(
        constants=constants,
        titles=tuple(titles[c] for c in columns),
        names=names,
        shots=tuple(titles[NUMBERS_FROM + 1 :]),
        numbers=tuple(tuple(row[NUMBERS_FROM + 1 :]) for row in cells),
    )


def _names(row: Row, cells: Sequence[str], columns: Sequence[int]) -> tuple[str, ...]:
    """The texts before a row's numbers; a ceiling is indented below its score, without the names."""
    if row.metric in BELOW:
        return (f"  {row.metric}", *("" for _ in columns[1:]))  # explained in the notes
    return tuple(cells[c] for c in columns)


# ------------------------------------------------------------------------------------------------------------- blocks


def _blocks(grid: _Grid, limit: int) -> list[range] | None:
    """The shot columns of each block; None if not even one fits next to the names."""
    widths = [_width([title, *(row[i] for row in grid.numbers)]) for i, title in enumerate(grid.shots)]
    space = limit - sum(_folded_widths(grid, limit)) - len(GAP) * (len(grid.titles) - 1)
    blocks: list[range] = []
    first, used = 0, 0
    for i, width in enumerate(widths):
        column_width = len(GAP) + width
        if column_width > space:
            return None
        if used + column_width > space:
            blocks.append(range(first, i))
            first, used = i, 0
        used += column_width
    blocks.append(range(first, len(widths)))
    return blocks


def _folded_widths(grid: _Grid, limit: int) -> list[int]:
    """Widths of the name columns: that of the longest name, or folded to half of the screen."""
    natural = [_width([title, *(row[i] for row in grid.names)]) for i, title in enumerate(grid.titles)]
    longest_word = [
        _width([w for text in (title, *(row[i] for row in grid.names)) for w in text.split()] or [""])
        for i, title in enumerate(grid.titles)
    ]
    budget = limit // 2
    widths = list(natural)
    while sum(widths) + len(GAP) * (len(widths) - 1) > budget:
        shrinkable = [i for i, w in enumerate(widths) if w > max(longest_word[i], min(LEAST_LABEL, natural[i]))]
        if not shrinkable:
            break
        widest = max(shrinkable, key=lambda i: widths[i])
        widths[widest] -= 1
    return widths


def _side_by_side(grid: _Grid, blocks: Sequence[range], limit: int) -> Iterator[str]:
    names = _folded_widths(grid, limit)
    for number, block in enumerate(blocks):
        if number:
            yield ""
        columns = [_width([grid.shots[i], *(row[i] for row in grid.numbers)]) for i in block]
        yield from _line(grid.titles, [grid.shots[i] for i in block], names, columns)
        yield "─" * (sum(names) + sum(columns) + len(GAP) * (len(names) + len(columns) - 1))
        for texts, numbers in zip(grid.names, grid.numbers, strict=True):
            block_rows = [numbers[i] for i in block]
            if len(blocks) == 1 or any(number != "-" for number in block_rows):
                yield from _line(texts, block_rows, names, columns)


def _line(texts: Sequence[str], numbers: Sequence[str], names: Sequence[int], columns: Sequence[int]) -> Iterator[str]:
    """One row: names on the left, folded if necessary; numbers on the right, on the first line."""
    folded = [_fold(text, width) for text, width in zip(texts, names, strict=True)]
    for i in range(max(map(len, folded))):
        name_cells = [
            _pad(parts[i] if i < len(parts) else "", width) for parts, width in zip(folded, names, strict=True)
        ]
        right = [_pad(text if i == 0 else "", width, right=True) for text, width in zip(numbers, columns, strict=True)]
        yield GAP.join([*name_cells, *right])


# ------------------------------------------------------------------------------------------------------------ stacked


def _stacked(grid: _Grid, limit: int) -> Iterator[str]:
    """Each row as a heading and its numbers, each with its shots."""
    for i, (names, numbers) in enumerate(zip(grid.names, grid.numbers, strict=True)):
        if i and names[0][:1] != " ":
            yield ""
        yield from _fold(GAP.join(filter(None, names)), limit)
        pairs = [f"{shots}: {number}" for shots, number in zip(grid.shots, numbers, strict=True) if number != "-"]
        yield from textwrap.wrap(
            GAP.join(pair.replace(" ", "\u00a0") for pair in pairs), limit, initial_indent="  ", subsequent_indent="  "
        )


# --------------------------------------------------------------------------------------------------------------- text


def _width(texts: Sequence[str]) -> int:
    return max(map(cell_len, texts), default=0)


def _pad(text: str, width: int, right: bool = False) -> str:
    blank = " " * (width - cell_len(text))
    return blank + text if right else text + blank


def _fold(text: str, width: int) -> list[str]:
    """The text in lines of at most `width` cells, broken at spaces, or inside a word that is too long."""
    indent = text[: len(text) - len(text.lstrip())]
    return textwrap.wrap(text, max(width, 1), subsequent_indent=indent, break_on_hyphens=False) or [""]
