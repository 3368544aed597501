"""flamingo-eval report: tables of finished runs, a figure, and a page for browsing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flamingo_eval.cli.options import Data, Images, Json, OutFile, complete_published, one_of

if TYPE_CHECKING:
    from flamingo_eval.report.page import PageOptions
    from flamingo_eval.report.tables import Table
    from flamingo_eval.runs.folder import RunFolder

FORMATS = ("table", "markdown", "csv", "latex", "json", "html")


def report(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[RUNS...]", help="Run folders, or folders above them; default: results/."),
    ] = None,
    format: Annotated[
        str, typer.Option(help="table, markdown, csv, latex, json or html.", autocompletion=one_of(*FORMATS))
    ] = "table",
    compare: Annotated[
        list[str] | None,
        typer.Option(
            "--compare",
            metavar="MODEL",
            help="Published scores next to ours; see `list published`.",
            autocompletion=complete_published,
        ),
    ] = None,
    out: OutFile = None,
    figure: Annotated[
        Path | None, typer.Option("--figure", metavar="FILE", help="Write score over shots as .svg, .pdf or .png.")
    ] = None,
    panels: Annotated[
        list[str] | None,
        typer.Option("--panel", metavar="TASK", help="Only this task's panels in --figure; repeatable."),
    ] = None,
    data: Data = None,
    images: Images = None,
    metric: Annotated[
        list[str] | None,
        typer.Option("--metric", metavar="NAME", help="Show these metrics of each task, or `all`; default: the first."),
    ] = None,
    icl: Annotated[
        bool,
        typer.Option("--icl", help="In-context learning: curve, copying from the shots, baselines, a verdict."),
    ] = False,
    title: Annotated[str, typer.Option(help="html: the page's title. latex: the caption.")] = "Few-shot results",
    label: Annotated[str, typer.Option(help="latex: the table's label.")] = "tab:few-shot",
    queries: Annotated[int, typer.Option(min=0, help="html: at most this many queries of a task.")] = 60,
    pictures: Annotated[int, typer.Option(min=0, help="html: at most this many pictures in total.")] = 1000,
    picture_size: Annotated[int, typer.Option(min=16, max=1024, help="html: pixels of their longer side.")] = 160,
    as_json: Json = False,
) -> None:
    """Print a table of finished runs: tasks as rows, shots as columns, means with 95 % intervals.

    --compare prints a published model's scores next to ours if task, split, metric and shots agree, and says how its
    protocol differs; it can be given several times. --format html writes one page with the figure, the tables and the
    queries to look through; prompts and pictures of runs on official data need --data, and --images if they were moved.
    """
    from flamingo_eval.cli.console import say
    from flamingo_eval.cli.option_checks import Checks, check_out_file, require_known
    from flamingo_eval.config.settings import data_choice, image_folders, is_sample, load_settings
    from flamingo_eval.errors import UsageError
    from flamingo_eval.report.tables import table_of
    from flamingo_eval.runs.folder import find_runs

    checks = Checks()
    checks.attempt(lambda: require_known((format, "--format", FORMATS)))
    if format == "html" and out is None:
        checks.add(UsageError("--format html writes a file: --out is missing, for example --out report.html."))
    if icl and format in ("csv", "latex"):
        checks.add(UsageError(f"--icl has no {format}.", fix="It is for table, markdown, json and html."))
    if panels and figure is None:
        checks.add(UsageError("--panel chooses panels of a figure.", fix="Add --figure figure.svg."))
    for file, option in ((out, "--out"), (figure, "--figure")):
        if file is not None:
            checks.attempt(lambda file=file, option=option: check_out_file(file, option))  # type: ignore[misc]
    folders = checks.attempt(lambda: find_runs(runs or [Path(load_settings().out)])) or []
    checks.require()
    if icl and format != "html":  # a page has the card in it
        data_name = data_choice(data)
        _print_card(folders, None if is_sample(data_name) else data_name, "json" if as_json else format, out)
        return
    table = table_of(folders, metric or ())
    if compare:
        from flamingo_eval.report.beside_published import compared

        table = compared(table, folders, compare)
    if figure is not None:
        from flamingo_eval.report.figure_file import chosen_panels, figure_bytes

        write_file(figure, figure_bytes(figure, chosen_panels(table, panels or ())), "--figure")
        say(f"{figure}: the figure")
    if format == "html" and out is not None:
        from flamingo_eval.report.page import PageOptions

        data_name = data_choice(data)
        root = None if is_sample(data_name) else data_name
        _write_page(
            folders, table, out, PageOptions(title, root, queries, pictures, picture_size, image_folders(images))
        )
        return
    _print_table(table, "json" if as_json else format, out, title, label)


def _print_card(folders: list[RunFolder], data: str | None, format: str, out: Path | None) -> None:
    """The in-context card on standard output, or in a file."""
    from dataclasses import asdict

    from flamingo_eval.cli.console import print_json, print_table, say
    from flamingo_eval.report import icl

    rows = icl.card_rows(folders, data)
    value = {"rows": [asdict(row) for row in rows]}
    if out is not None:
        text = icl.markdown_card(rows) if format != "json" else json.dumps(value, indent=1, ensure_ascii=False) + "\n"
        write_file(out, text.encode())
    elif format == "json":
        print_json(value)
    elif format == "markdown":
        print(icl.markdown_card(rows), end="")
    else:
        for table in icl.tables_of(rows):
            print_table(table.titles, table.lines, table.numbers_from)
        for note in (*icl.NOTES, *icl.whys(rows)):
            say(note)


def _write_page(folders: list[RunFolder], table: Table, out: Path, options: PageOptions) -> None:
    from flamingo_eval.cli.console import say, status
    from flamingo_eval.report.page import html_page

    with status("drawing the page"):
        page = html_page(folders, table, options)
    write_file(out, page.html.encode())
    for note in page.notes:
        say(note)
    say(f"{out}: {len(folders)} runs, {len(page.html.encode()) / 1e6:.1f} MB")


def _print_table(table: Table, format: str, out: Path | None, title: str, label: str) -> None:
    from flamingo_eval.cli.console import print_json, print_results
    from flamingo_eval.report.formats import csv_text, json_value, latex, markdown
    from flamingo_eval.report.text_table import text_table

    if out is None and format == "table":
        print_results(table)
        return
    if out is None and format == "json":
        print_json(json_value(table))
        return
    writers: dict[str, Callable[[], str]] = {
        "json": lambda: json.dumps(json_value(table), indent=1, ensure_ascii=False) + "\n",
        "table": lambda: text_table(table),
        "markdown": lambda: markdown(table),
        "csv": lambda: csv_text(table),
        "latex": lambda: latex(table, title, label),
    }
    text = writers[format]()
    if out is None:
        print(text, end="")
    else:
        write_file(out, text.encode())


def write_file(path: Path, data: bytes, option: str = "--out") -> None:
    """Write a report file atomically. Raises RunError if it cannot be written."""
    from flamingo_eval.errors import RunError
    from flamingo_eval.files import write_atomically

    try:
        if path.exists() and not path.is_file():  # /dev/stdout, a named pipe
            path.write_bytes(data)
        else:
            write_atomically(path, data)
    except OSError as error:
        raise RunError(f"{option} {path}: cannot be written: {error.strerror}.") from error
