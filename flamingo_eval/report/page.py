"""The report page: one self-contained HTML file that is safe to open, whatever a model wrote.

Text from a model or a data set is made visible (visible.py), escaped by Jinja or as JSON, and inserted by the page's
script as text, never as markup. A content security policy allows only the page's own style and script, by their
digests, and pictures from data URIs; no network.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import jinja2
from markupsafe import Markup

from flamingo_eval import __version__
from flamingo_eval.report import figure
from flamingo_eval.report.browser import Browser
from flamingo_eval.report.cells import NUMBERS_FROM, header, lines, name_columns, notes_of
from flamingo_eval.report.icl import NOTES, card_rows, whys
from flamingo_eval.report.page_card import copying_table, curve_table
from flamingo_eval.report.recorded_prompts import Run, read_runs
from flamingo_eval.report.shown_table import ShownCell, ShownRow, ShownTable
from flamingo_eval.report.tables import METRIC_TITLES, Cell, Row, Table
from flamingo_eval.report.thumbnails import PictureBook
from flamingo_eval.report.visible import visible
from flamingo_eval.runs.folder import RunFolder
from flamingo_eval.runs.record import CHECKPOINT

FOLDER = Path(__file__).resolve().parent
DARK_THEME = """color-scheme: dark;
  --bg: #121116; --surface: #1a191f; --ink: #f1edf2; --muted: #a59fab; --rule: #322f39; --sunk: #232129;
  --accent: #ff79b0; --soft: #3b1b2b; --ok: #62d8a6; --ok-soft: #15332a; --bad: #ff968c; --bad-soft: #43201e;
  --warn: #f3c778; --warn-soft: #362a13; --shadow: none;"""


@dataclass(frozen=True, slots=True)
class PageOptions:
    """Options of the page."""

    title: str = "Few-shot results"
    data: str | None = None  # root of the official files; runs on the sample need none
    queries: int = 60  # of each task
    pictures: int = 1000  # in all
    picture_size: int = 160  # pixels of the longer side
    images: tuple[str, ...] = ()  # folders of pictures besides those of the data root


@dataclass(frozen=True, slots=True)
class Page:
    """The file's text, and notes for the user: missing data, pictures left out."""

    html: str
    notes: tuple[str, ...]


def html_page(folders: Sequence[RunFolder], table: Table, options: PageOptions) -> Page:
    """The page of complete runs and their table. Raises RunError for records that cannot be read."""
    runs = read_runs(folders)
    browser = Browser(PictureBook(options.picture_size, options.pictures))
    value = browser.value(runs, options.queries, options.data, options.images)
    left_out = max(0, len(browser.book) - options.pictures)
    notes = [*browser.notes]
    if left_out:
        notes.append(f"{left_out} of {len(browser.book)} pictures are not on the page (--pictures {options.pictures})")
    card = card_rows(folders, options.data)
    css, js = _css(), (FOLDER / "page.js").read_text(encoding="utf-8")
    env = _environment()
    small_table = env.get_template("table.html.j2")
    html = env.get_template("page.html.j2").render(
        title=options.title,
        version=__version__,
        css=Markup(css),
        js=Markup(js),
        css_hash=_csp_hash(css),
        js_hash=_csp_hash(js),
        data=Markup(script_json(value)),
        facts=_facts(runs, table),
        sample=any("@sample" in r.spec.task_label for r in runs),
        series=list(figure.series_of(table).values()),
        panels=figure.panels_of(table),
        panel_width=figure.WIDTH,
        panel_height=figure.HEIGHT,
        notes=notes_of(table),
        browser_notes=notes,
        score_table=_score_table(table),
        curve_table=curve_table(card),
        copying_table=copying_table(card),
        card_notes=[*NOTES, *whys(card)],
        type_table=_type_table(runs),
        run_table=_run_table(runs),
        input_table=_input_table(runs),
        table=lambda t: Markup(small_table.render(t=t)),
    )
    return Page(html, tuple(notes))


def _environment() -> jinja2.Environment:
    env = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=lambda v: visible(v) if isinstance(v, str) and not isinstance(v, Markup) else v,
    )
    env.filters["markup"] = Markup  # for pictures made by this package
    return env


def script_json(value: Any) -> str:
    """JSON that cannot leave its <script> element, in ASCII."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _csp_hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _css() -> str:
    css = (FOLDER / "page.css").read_text(encoding="utf-8")
    dark = f"{DARK_THEME} {figure.colour_variables(figure.DARK)}"
    figures = figure.style(".panel") + "\n" + figure.style(".legend")
    swatches = "\n".join(f".swatch.s{i} {{ --c: var(--s{i}) }}" for i in range(figure.COLOURS))
    css = css.replace("@LIGHT@", figure.colour_variables(figure.LIGHT)).replace("@DARK_THEME@", dark)
    return css.replace("@FIGURE@", f"{figures}\n{swatches}")


def _facts(runs: Sequence[Run], table: Table) -> list[tuple[str, str]]:
    counts = [
        (len({r.spec.task_label for r in runs}), "task"),
        (len({r.spec.model for r in runs}), "model"),
        (len({r.spec.demos.seed for r in runs}), "seed"),
        (len(runs), "run"),
        (sum(len(r.outputs) for r in runs), "answer"),
    ]
    facts = [(_count(n), word if n == 1 else f"{word}s") for n, word in counts]
    return [*facts[:2], (", ".join(map(str, table.shots)), "shots"), *facts[2:]]


def _count(n: int) -> str:
    return f"{n:,}"


# -------------------------------------------------------------------------------------------------------------- tables


def _score_table(table: Table) -> ShownTable:
    """Rows as in the terminal: columns with one value are above the table, and on a phone below the task's name."""
    series = figure.series_of(table)
    constants, names = name_columns(table)
    titles = header(table)
    rows = []
    for row, texts in zip(table.rows, lines(table), strict=True):
        line = series[figure.series_key(row)]
        swatch = None if line.kind == "ceiling" else line.colour
        detail = ", ".join(texts[c] for c in names[1:] if c < NUMBERS_FROM)
        cells = [ShownCell(texts[0], texts[0], detail=detail, swatch=swatch)]
        cells += [ShownCell(texts[c], texts[c].replace("-", "") if c == NUMBERS_FROM else texts[c]) for c in names[1:]]
        cells += [_score_cell(row, row.cells.get(k)) for k in table.shots]
        rows.append(ShownRow(tuple(cells), bool(row.published)))
    titles_shown = (*(titles[c] for c in names), *titles[NUMBERS_FROM + 1 :])
    above = f"All rows: {', '.join(constants)}." if constants else ""
    first_number = sum(c < NUMBERS_FROM for c in names)
    return ShownTable("Scores by task and number of shots", titles_shown, tuple(rows), first_number, above, len(names))


def _score_cell(row: Row, cell: Cell | None) -> ShownCell:
    if cell is None:
        return ShownCell("–", "")
    if cell.value is None:
        return ShownCell("undefined", "", about=cell.why_undefined)
    tooltip = [f"95 % interval {cell.ci95[0]:.2f} to {cell.ci95[1]:.2f}"] if cell.ci95 else []
    tooltip += [f"seeds {', '.join(map(str, cell.seeds))}"] if cell.seeds else []
    tooltip += [f"standard deviation over seeds {cell.spread:.2f}"] if cell.spread is not None else []
    tooltip += [f"{cell.n_failed} queries failed"] if cell.n_failed else []
    tooltip += [*cell.notes, *row.differences]
    half = f"±{(cell.ci95[1] - cell.ci95[0]) / 2:.1f}" if cell.ci95 else ""
    if cell.n_failed:
        half = f"{half} !{cell.n_failed}".strip()
    return ShownCell(f"{cell.value:.1f}", repr(cell.value), half, "; ".join(tooltip))


def _type_table(runs: Sequence[Run]) -> ShownTable:
    """Breakdowns of the headline metric, means over seeds."""
    shots = sorted({r.spec.demos.shots for r in runs})
    values: dict[tuple[str, str, str], dict[int, list[float]]] = {}
    for run in runs:
        for name, value in run.scores.headline.breakdown.items():
            if value is not None:
                key = (run.spec.task_label, _series_name(run), name)
                values.setdefault(key, {}).setdefault(run.spec.demos.shots, []).append(value)
    rows = []
    for (task, series, name), by_shots in values.items():
        means = [fmean(by_shots[k]) if k in by_shots else None for k in shots]
        cells = [ShownCell(w, w) for w in (task, series, name)]
        cells += [ShownCell("–", "") if m is None else ShownCell(f"{m:.1f}", repr(m)) for m in means]
        rows.append(ShownRow(tuple(cells)))
    titles = ("task", "model", "type", *(f"{k} shots" for k in shots))
    return ShownTable("Scores by type of question", titles, tuple(rows), 3)


def _series_name(run: Run) -> str:
    return ", ".join([run.spec.model, run.spec.protocol.name, *run.words])


def _run_table(runs: Sequence[Run]) -> ShownTable:
    titles = ("task", "model", "software", "device", "record", "shots", "seed", "score", "queries", "failed", "seconds")
    return ShownTable("Runs", titles, tuple(ShownRow(tuple(_run_cells(r))) for r in runs), 5)


def _run_cells(run: Run) -> list[ShownCell]:
    record, headline = run.record, run.scores.headline
    origin = record.provenance
    commit = f"{origin.commit[:8]}{'*' if origin.dirty else ''}" if origin.commit else ""
    software = f"{origin.flamingo_eval or '?'} {commit}".strip()
    packages = ", ".join(f"{k} {v}" for k, v in origin.packages.items())
    words = [
        ShownCell(run.spec.task_label, run.spec.task_label),
        ShownCell(_series_name(run), _series_name(run)),
        ShownCell(software, software, about=packages),
        ShownCell(f"{origin.device or '?'}, {origin.dtype or '?'}", "", about=str(origin.device_name)),
        ShownCell(run.folder.path.name, run.folder.path.name),
    ]
    counts, seconds = record.counts, record.timings.seconds
    metric = METRIC_TITLES.get(headline.metric, headline.metric)
    numbers = [
        (str(run.spec.demos.shots), run.spec.demos.shots, ""),
        (str(run.spec.demos.seed), run.spec.demos.seed, ""),
        ("undefined" if headline.value is None else f"{headline.value:.2f}", headline.value, metric),
        (_count(counts.queries), counts.queries, f"of {counts.of}"),
        (str(counts.failed), counts.failed, ""),
        ("–" if seconds is None else f"{seconds:,.1f}", seconds, ""),
    ]
    return words + [ShownCell(t, "" if v is None else repr(v), about=tooltip) for t, v, tooltip in numbers]


def _input_table(runs: Sequence[Run]) -> ShownTable:
    """Every input once: file, digest, and the tasks that use it."""
    names_of: dict[tuple[str, str], dict[str, None]] = {}
    for run in runs:
        for name, digest in run.record.inputs.items():
            label = f"checkpoint of {run.spec.model}" if name == CHECKPOINT else name
            names_of.setdefault((label, str(digest)), {})[run.spec.task_label] = None
    rows = tuple(
        ShownRow((ShownCell(name, name), ShownCell(digest, digest), ShownCell(", ".join(tasks), ", ".join(tasks))))
        for (name, digest), tasks in sorted(names_of.items())
    )
    return ShownTable("Inputs", ("file", "sha256", "tasks"), rows, 3)
