"""Output for people: tables on standard output, everything else on standard error."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from rich.console import Console

    from flamingo_eval.report.tables import Table


def console(stderr: bool = False) -> Console:
    """A rich console; rich itself respects NO_COLOR and a missing terminal."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else 160  # no limit of 80 columns in a file or log
    return Console(stderr=stderr, width=width, highlight=False, soft_wrap=not stream.isatty())


def print_table(titles: Sequence[str], rows: Iterable[Sequence[object]], numbers_from: int | None = None) -> None:
    """A plain table on standard output; columns from `numbers_from` on are right-aligned. Cells are never markup."""
    from rich import box
    from rich.cells import cell_len
    from rich.table import Table
    from rich.text import Text

    cells = [[str(cell) for cell in row] for row in rows]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for i, title in enumerate(titles):
        number = numbers_from is not None and i >= numbers_from
        no_wrap = number or (i == 0 and numbers_from is not None)  # names of rows of numbers are not wrapped
        width = max(map(cell_len, (title, *(row[i] for row in cells)))) if no_wrap else None
        justify: Literal["left", "right"] = "right" if number else "left"
        table.add_column(title, justify=justify, no_wrap=no_wrap, overflow="fold", min_width=width)
    for row in cells:
        table.add_row(*map(Text, row))
    screen = console()
    min_width = screen.measure(table).minimum
    if min_width > screen.width:  # numbers are never truncated; lines may be longer than the screen
        screen.width = min_width
    screen.print(table)


def print_results(table: Table) -> None:
    """A table of results on standard output, within the terminal's width; its notes on standard error."""
    import shutil
    import textwrap

    from flamingo_eval.report.cells import notes_of
    from flamingo_eval.report.text_table import text_table

    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    print(text_table(table, width), flush=True)
    for note in notes_of(table):
        say(textwrap.fill(note, width, subsequent_indent="  ", break_on_hyphens=False) if width else note)


def say(text: str) -> None:
    """Print one line for people, on standard error."""
    print(text, file=sys.stderr, flush=True)


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    print(json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False))


@contextmanager
def status(text: str, quiet: bool = False) -> Iterator[None]:
    """A spinner with a text on a terminal, one plain line elsewhere."""
    if quiet:
        yield
    elif sys.stderr.isatty():
        with console(stderr=True).status(text):
            yield
    else:
        say(text)
        yield
