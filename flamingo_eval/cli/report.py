"""flamingo-eval report: tables of finished runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flamingo_eval.cli.options import Json, OutFile

FORMATS = ("table", "markdown", "csv", "latex", "json")


def report(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[RUNS...]", help="Run folders, or folders above them; default: results/."),
    ] = None,
    format: Annotated[str, typer.Option(help="table, markdown, csv, latex or json.")] = "table",
    compare: Annotated[
        list[str] | None,
        typer.Option("--compare", metavar="MODEL", help="Published scores beside ours; see `list published`."),
    ] = None,
    out: OutFile = None,
    as_json: Json = False,
) -> None:
    """Print a table of finished runs: tasks as rows, shots as columns, means with 95 % intervals.

    --compare puts a published model's scores beside ours where task, split, metric and shots agree, and says how its
    protocol differs; it can be given several times.
    """
    from flamingo_eval.cli.console import print_json, print_table, say
    from flamingo_eval.errors import UsageError, did_you_mean
    from flamingo_eval.results import find_runs
    from flamingo_eval.settings import load_settings
    from flamingo_eval.tables import (
        NUMBERS_FROM,
        csv_text,
        header,
        json_value,
        latex,
        lines,
        markdown,
        notes_of,
        table_of,
    )

    if format not in FORMATS:
        hint = did_you_mean(format, FORMATS)
        raise UsageError(f"--format {format}: {hint or 'unknown.'} One of: {', '.join(FORMATS)}.")
    folders = find_runs(runs or [Path(load_settings().out)])
    table = table_of(folders)
    if compare:
        from flamingo_eval.published import compared

        table = compared(table, folders, compare)
    if as_json or format == "json":
        if out is None:
            print_json(json_value(table))
            return
        import json

        text = json.dumps(json_value(table), indent=1, ensure_ascii=False) + "\n"
    elif format == "table":
        if out is None:
            print_table(header(table), lines(table), NUMBERS_FROM)
            for note in notes_of(table):
                say(note)
            return
        text = markdown(table)
    else:
        text = {"markdown": markdown, "csv": csv_text, "latex": latex}[format](table)
    if out is None:
        print(text, end="")
    else:
        write_text(out, text)


def write_text(path: Path, text: str) -> None:
    """Write a report file. Raises RunError when the place cannot be written."""
    from flamingo_eval.errors import RunError

    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise RunError(f"--out {path}: cannot be written: {error.strerror}.") from error
