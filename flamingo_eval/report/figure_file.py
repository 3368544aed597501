"""The figure as a file: SVG, or PDF and PNG with the extra `figures`."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from flamingo_eval.errors import MissingDependency, UsageError, did_you_mean
from flamingo_eval.report.figure import PLAIN_FONT, svg_file
from flamingo_eval.report.tables import Table

FORMATS = (".svg", ".pdf", ".png")
SCALE = 3  # pixels of a PNG for each unit of the figure: 300 dots an inch in a column of a paper
INSTALL = "pip install 'flamingo-eval[figures]'"


def figure_bytes(path: Path, table: Table) -> bytes:
    """The figure in the format of the file name's suffix.

    Raises UsageError for another suffix, MissingDependency if the extra is missing.
    """
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        raise UsageError(
            f"invalid value for --figure: '{path}'. Expected a name that ends in {', '.join(FORMATS)}.",
            fix="For example --figure figure.pdf.",
        )
    if suffix == ".svg":
        return svg_file(table).encode()
    return _pdf(table) if suffix == ".pdf" else _png(table)


def chosen_panels(table: Table, tasks: Sequence[str]) -> Table:
    """The table's rows of these tasks (`vqav2@sample`, or `vqav2` for both). Raises UsageError for one without rows."""
    if not tasks:
        return table
    task_names = list(dict.fromkeys(row.task for row in table.rows))
    names = {task: {task, task.partition("@")[0]} for task in task_names}
    for task in tasks:
        if not any(task in names[label] for label in task_names):
            hint = did_you_mean(task, [name for label in task_names for name in sorted(names[label])])
            raise UsageError(
                f"invalid value for --panel: '{task}'. {hint}".rstrip(), fix=f"Tasks: {', '.join(task_names)}."
            )
    return replace(table, rows=tuple(row for row in table.rows if names[row.task] & set(tasks)))


def _pdf(table: Table) -> bytes:
    try:
        import reportlab
        from reportlab.graphics import renderPDF
        from svglib.fonts import register_font
        from svglib.svglib import svg2rlg
    except ImportError as error:
        raise MissingDependency("--figure: PDF needs svglib.", fix=INSTALL) from error
    fonts = Path(reportlab.__file__).parent / "fonts"
    register_font(PLAIN_FONT, str(fonts / "Vera.ttf"))  # embedded, as journals ask
    register_font(PLAIN_FONT, str(fonts / "VeraBd.ttf"), weight="bold")
    drawing = svg2rlg(io.StringIO(svg_file(table, plain=True)))
    data: bytes = renderPDF.drawToString(drawing)
    return data


def _png(table: Table) -> bytes:
    try:
        import reportlab
        import resvg_py
    except ImportError as error:
        raise MissingDependency("--figure: PNG needs resvg_py and reportlab.", fix=INSTALL) from error
    fonts = Path(reportlab.__file__).parent / "fonts"
    return bytes(
        resvg_py.svg_to_bytes(
            svg_string=svg_file(table, plain=True),
            zoom=SCALE,
            skip_system_fonts=True,
            font_files=[str(fonts / name) for name in ("Vera.ttf", "VeraBd.ttf")],
        )
    )
