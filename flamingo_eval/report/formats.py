"""A table of results as Markdown, CSV, LaTeX and JSON."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Iterable, Sequence
from typing import Any

from flamingo_eval.report.cells import NUMBERS_FROM, header, lines, name_columns, notes_of
from flamingo_eval.report.tables import Table


def markdown(table: Table) -> str:
    """GitHub Markdown."""
    return markdown_table(header(table), lines(table), NUMBERS_FROM)


def markdown_table(titles: Sequence[str], body: Iterable[Sequence[str]], numbers_from: int) -> str:
    """A table in GitHub Markdown; columns from `numbers_from` on are right-aligned."""
    rows = [titles, ["---"] * numbers_from + ["--:"] * (len(titles) - numbers_from), *body]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows) + "\n"


CSV_COLUMNS = (
    "task", "split", "metric", "model", "protocol", "demos", "ablation", "variant", "shots",
    "value", "low", "high", "seeds", "spread", "n", "failed", "why", "published", "differences",
)  # fmt: skip


def csv_text(table: Table) -> str:
    """One line per number, with all columns that identify it."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for row in table.rows:
        for shots, c in row.cells.items():
            low, high = c.ci95 or (None, None)
            writer.writerow(
                [
                    *(
                        row.task,
                        row.split,
                        row.metric,
                        row.model,
                        row.protocol,
                        row.demos,
                        row.ablation,
                        row.variant,
                        shots,
                    ),
                    *(c.value, low, high, " ".join(map(str, c.seeds)), c.spread, c.n, c.n_failed, c.why_undefined),
                    *(row.published, "; ".join(row.differences)),
                ]
            )
    return out.getvalue()


PLUS_MINUS = "\ue000"  # placeholder for the sign until the rest of a cell is escaped
_LATEX = str.maketrans(
    {c: f"\\{c}" for c in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
)


def latex(table: Table, caption: str = "", label: str = "tab:few-shot") -> str:
    """A table environment with booktabs rules, caption, label and the notes below.

    Columns with one value in all rows are in the caption.
    """
    titles, cells = header(table), lines(table, PLUS_MINUS)
    constants, names = name_columns(table)
    shown_columns = [*names, *range(NUMBERS_FROM + 1, len(titles))]
    common = ", ".join(constants)
    columns = "".join("l" if c < NUMBERS_FROM else "r" for c in shown_columns)
    body = [" & ".join(_tex(row[c]) for c in shown_columns) + r" \\" for row in (titles, *cells)]
    return "\n".join(
        [
            r"% \usepackage{booktabs}",
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{_tex('. '.join(part for part in (caption or 'Few-shot results', common) if part))}.}}",
            rf"\label{{{label}}}",
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            body[0],
            r"\midrule",
            *body[1:],
            r"\bottomrule",
            r"\end{tabular}",
            r"\par\smallskip",
            r"\begin{minipage}{\linewidth}\footnotesize",
            *(rf"{_tex(note)}\par" for note in notes_of(table)),
            r"\end{minipage}",
            r"\end{table}",
            "",
        ]
    )


def _tex(text: str) -> str:
    return text.translate(_LATEX).replace(PLUS_MINUS, r"$\pm$").replace("±", r"$\pm$")


def json_value(table: Table) -> dict[str, Any]:
    """The table as JSON."""
    rows = []
    for row in table.rows:
        value = dataclasses.asdict(row)
        value["cells"] = {str(k): dataclasses.asdict(c) for k, c in row.cells.items()}
        rows.append(value)
    return {"shots": list(table.shots), "rows": rows, "notes": notes_of(table)}
