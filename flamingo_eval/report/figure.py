"""Score over shots, one panel per task: the paper's figure, as SVG.

It is drawn without a plotting library: a panel is a hundred lines of markup, follows the page's light and dark colours
through CSS, and needs no script and no dependency. matplotlib's SVG has fixed colours and fonts, and JavaScript
libraries are larger than the rest of the page.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias
from xml.sax.saxutils import escape, quoteattr

from flamingo_eval.report.tables import METRIC_TITLES, Cell, Row, Table
from flamingo_eval.report.visible import visible
from flamingo_eval.runs.folder import BELOW

WIDTH, HEIGHT = 320, 230  # of a panel, in its own units
LEFT, RIGHT, TOP, BOTTOM = 40, 12, 44, 34
GAP = 20  # between the panels of a file
LEGEND_LINE = 20
COLOURS = 8
FONTS = "system-ui, sans-serif"
PLAIN_FONT = "Bitstream Vera Sans"  # part of the PDF library, so letters are equal on every machine
DASHES = ("7 3", "2 3", "9 3 2 3", "4 2")  # of the second and later lines of a model
INK, MUTED, RULE, SURFACE = "#1d1a20", "#67616c", "#e7e2e6", "#ffffff"
LIGHT = ("#c81d6b", "#1f6fc4", "#1a8a5f", "#b06a00", "#7446b8", "#00808c", "#8a4b32", "#5a6472")
DARK = ("#ff79b0", "#6fb3ff", "#53d3a0", "#f0b04a", "#b899f5", "#4fd0dc", "#d99a7c", "#a9b4c2")


SeriesKey: TypeAlias = tuple[str, str, str, str, str, str]  # model, protocol, demos, ablation, variant, kind


@dataclass(frozen=True, slots=True)
class Series:
    """One line of the figure: a model and its settings, with the same style in every panel.

    Lines of one model have the same colour and different dashes; if there is only one model, lines have different
    colours.
    """

    number: int
    label: str
    kind: str  # ours, published, or ceiling (only guessing can exceed it), or what always repeating a shot scores
    colour: int
    dash: int = 0

    @property
    def style(self) -> str:
        """Its CSS classes."""
        dash = f"d{1 + (self.dash - 1) % len(DASHES)}" if self.dash else ""
        colour = "" if self.kind == "ceiling" else f"s{self.colour}"
        return " ".join(filter(None, (colour, dash, "" if self.kind == "ours" else self.kind)))


@dataclass(frozen=True, slots=True)
class Panel:
    """One task: its rows, and the SVG group that draws them."""

    title: str
    metric: str
    description: str
    markup: str


def series_of(table: Table) -> dict[SeriesKey, Series]:
    """Every line of the figure, in the table's order: ours, then published ones, then the ceiling."""
    order = ("ours", "published", "ceiling")
    keys = sorted(dict.fromkeys(map(series_key, table.rows)), key=lambda k: order.index(k[-1]))
    several_protocols = len({k[1] for k in keys if k[-1] == "ours"}) > 1
    models = list(dict.fromkeys(k[0] for k in keys if k[-1] != "ceiling"))
    lines_of = dict.fromkeys(models, 0)  # number of lines of a model that have dashes
    series = {}
    for number, key in enumerate(keys):
        model, protocol, demos, ablation, variant, kind = key
        words = [model]
        words += [protocol] if several_protocols and kind == "ours" else []
        words += [w for w in (demos if demos != "random" else "", ablation, variant) if w]
        words += ["published"] if kind == "published" else []
        colour, dash = number, 0
        if kind == "ceiling":
            dash = [METRIC_TITLES[name] for name in BELOW].index(model)
        elif len(models) > 1:
            colour, dash = models.index(model), lines_of[model]
            lines_of[model] += 1
        series[key] = Series(number, visible(", ".join(words), 80), kind, colour % COLOURS, dash)
    return series


def series_key(row: Row) -> SeriesKey:
    """The key of the line that a row belongs to."""
    if row.metric in BELOW:
        return (METRIC_TITLES[row.metric], "", "random", "", row.variant, "ceiling")
    kind = "published" if row.published else "ours"
    return (row.model, row.protocol, row.demos, row.ablation, row.variant, kind)


def panels_of(table: Table) -> list[Panel]:
    """A panel for each task, split and metric with a number; a ceiling is in the panel of its task."""
    series = series_of(table)
    groups: dict[tuple[str, str, str], dict[Series, list[_Point]]] = {}
    metric = ""
    for row in table.rows:
        metric = metric if row.metric in BELOW else row.metric
        points = _points(row)
        if points:
            groups.setdefault((row.task, row.split, metric), {})[series[series_key(row)]] = points
    extents: dict[tuple[str, str], list[float]] = {}  # panels of one task and metric share their axis
    for (task, _, metric), lines in groups.items():
        values = [v for points in lines.values() for _, _, cell in points for v in _extent(cell)]
        extents.setdefault((task, metric), []).extend(values)
    panels = []
    for (task, split, metric), lines in groups.items():
        title = visible(f"{task} ({split})" if split else task, 60)
        name = METRIC_TITLES.get(metric, metric)
        panel = _drawn(title, name, list(lines.items()), table.shots, extents[task, metric])
        panels.append(Panel(title, name, _described(title, name, list(lines.items())), panel))
    return panels


_Point = tuple[int, float, Cell]
_Line = tuple[Series, list[_Point]]


def _points(row: Row) -> list[_Point]:
    return [(k, cell.value, cell) for k, cell in sorted(row.cells.items()) if cell.value is not None]


def _described(title: str, metric: str, lines: Sequence[_Line]) -> str:
    """The panel's description for screen readers."""
    parts = [f"{s.label}: " + ", ".join(f"{v:.1f} at {k}" for k, v, _ in points) for s, points in lines]
    return f"{title}, {metric} over shots. " + "; ".join(parts)


def _drawn(title: str, metric: str, lines: Sequence[_Line], shots: Sequence[int], extent: Sequence[float]) -> str:
    low, high, step = axis(extent)
    xs = [math.log2(k + 2) for k in shots]  # 0, 4, 8, 16, 32 at nearly equal distances, as in the paper
    span = (xs[-1] - xs[0]) or 1.0

    def x(k: int) -> float:
        inner = WIDTH - LEFT - RIGHT - 24
        return LEFT + 12 + (inner / 2 if len(xs) == 1 else inner * (math.log2(k + 2) - xs[0]) / span)

    def y(value: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value - low) / (high - low)

    out = [_text(LEFT - 30, 15, title, "title"), _text(LEFT - 30, 29, metric, "small")]
    for i in range(round((high - low) / step) + 1):
        value = low + i * step
        out.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(value):.1f}" y2="{y(value):.1f}"/>')
        out.append(_text(LEFT - 6, y(value) + 3.5, f"{value:g}", "tick end"))
    ticks = sorted(
        {k for _, points in lines for k, _, _ in points}
    )  # the axis is common, the ticks are the panel's own
    out += [_text(x(k), HEIGHT - BOTTOM + 15, str(k), "tick middle") for k in ticks]
    out.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 4, "shots", "small middle"))
    for s, points in sorted(lines, key=lambda line: -line[0].number):  # draw the first series last, on top
        out += _line_marks(s, [(x(k), k, v, c) for k, v, c in points], y)
    return "\n".join(out)


def _extent(cell: Cell) -> tuple[float, ...]:
    return (*(cell.ci95 or ()), cell.value or 0.0)


def _line_marks(
    s: Series, points: Sequence[tuple[float, int, float, Cell]], y: Callable[[float], float]
) -> Iterator[str]:
    yield f'<g class="{s.style}">'
    with_interval = [(px, c.ci95) for px, _, _, c in points if c.ci95 is not None]
    if len(with_interval) > 1:
        upper = [f"{px:.1f},{y(ci[1]):.1f}" for px, ci in with_interval]
        lower = [f"{px:.1f},{y(ci[0]):.1f}" for px, ci in reversed(with_interval)]
        yield f'<polygon class="band" points="{" ".join(upper + lower)}"/>'
    for px, ci in with_interval:
        yield f'<line class="whisker" x1="{px:.1f}" x2="{px:.1f}" y1="{y(ci[0]):.1f}" y2="{y(ci[1]):.1f}"/>'
    if len(points) > 1:
        path = " ".join(f"{px:.1f},{y(v):.1f}" for px, _, v, _ in points)
        yield f'<polyline class="line" points="{path}"/>'
    for px, k, v, c in points:
        label = f"{s.label}, {k} shots: {v:.1f}"
        label += f" (95 %: {c.ci95[0]:.1f} to {c.ci95[1]:.1f})" if c.ci95 else ""
        yield f'<circle class="point" cx="{px:.1f}" cy="{y(v):.1f}" r="3.6"><title>{escape(label)}</title></circle>'
    yield "</g>"


def axis(values: Sequence[float]) -> tuple[float, float, float]:
    """Round limits around the values and the step between ticks: 3 to 7 ticks, never below 0 unless a value is."""
    low, high = min(values), max(values)
    pad = max((high - low) * 0.08, 1.0)
    low, high = (max(0.0, low - pad) if low >= 0 else low - pad), high + pad
    high = 100.0 if max(values) <= 100 < high else high  # the maximum of most metrics
    rough = (high - low) / 4
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(m * size for m in (1, 2, 2.5, 5, 10) if m * size >= rough)
    return math.floor(low / step) * step, math.ceil(high / step) * step, step


def _text(x: float, y: float, text: str, style: str) -> str:
    return f'<text class="{style}" x="{x:.1f}" y="{y:.1f}">{escape(text)}</text>'


# ------------------------------------------------------------------------------------------------- style, legend, file


def style(prefix: str = "") -> str:
    """CSS of the panels; colours are the page's variables --s0 to --s7, --ink, --muted, --rule, --surface."""
    rules = [
        f"{prefix} text {{ font-size: 10px; font-family: {FONTS}; fill: var(--muted) }}",
        f"{prefix} text {{ font-variant-numeric: tabular-nums }}",
        f"{prefix} .title {{ font-size: 12.5px; font-weight: 600; fill: var(--ink) }}",
        f"{prefix} .end {{ text-anchor: end }}",
        f"{prefix} .middle {{ text-anchor: middle }}",
        f"{prefix} .grid {{ stroke: var(--rule); stroke-width: 1 }}",
        f"{prefix} .band {{ fill: var(--c); fill-opacity: 0.13; stroke: none }}",
        f"{prefix} .whisker {{ stroke: var(--c); stroke-width: 1.2; stroke-opacity: 0.55 }}",
        f"{prefix} .line {{ fill: none; stroke: var(--c); stroke-width: 2.2; stroke-linejoin: round }}",
        f"{prefix} .point {{ fill: var(--c); stroke: var(--surface); stroke-width: 1.2 }}",
        f"{prefix} .ceiling {{ --c: var(--muted) }}",
        f"{prefix} .ceiling .line {{ stroke-dasharray: 1.5 4; stroke-width: 1.6; stroke-linecap: round }}",
        f"{prefix} .ceiling .point {{ fill: none; stroke: none }}",
        f"{prefix} .published .line {{ stroke-dasharray: 5 4; stroke-width: 1.6 }}",
        f"{prefix} .published .point {{ fill: var(--surface); stroke: var(--c); stroke-width: 1.6 }}",
        *(f"{prefix} .d{i} .line {{ stroke-dasharray: {dash} }}" for i, dash in enumerate(DASHES, start=1)),
        *(f"{prefix} .s{i} {{ --c: var(--s{i}) }}" for i in range(COLOURS)),
    ]
    return "\n".join(rules)


def colour_variables(colours: Sequence[str]) -> str:
    """`--s0: #c81d6b; ...`"""
    return " ".join(f"--s{i}: {c};" for i, c in enumerate(colours))


def plain_style() -> str:
    """The light style with explicit colours, for SVG readers without CSS variables."""
    colours = {"--ink": INK, "--muted": MUTED, "--rule": RULE, "--surface": SURFACE}
    rules = []
    for rule in style().splitlines():
        if "--c:" in rule:
            continue
        if "var(--c)" not in rule:
            rules.append(rule)
            continue
        rules += [f".s{i}{rule.replace('var(--c)', colour)}" for i, colour in enumerate(LIGHT)]
        rules += [f".ceiling{rule.replace('var(--c)', MUTED)}"]
    text = "\n".join(rules)
    for name, colour in colours.items():
        text = text.replace(f"var({name})", colour)
    return text.replace(FONTS, f"'{PLAIN_FONT}', Helvetica, sans-serif").replace(
        "font-weight: 600", "font-weight: bold"
    )


def svg_file(table: Table, columns: int = 3, *, plain: bool = False) -> str:
    """The figure as one SVG document, light or dark as the viewer prefers; `plain`: light, without variables."""
    panels = panels_of(table)
    columns = max(1, min(columns, len(panels)))
    rows = math.ceil(len(panels) / columns)
    legend = list(series_of(table).values())
    width = columns * WIDTH + (columns + 1) * GAP
    top = rows * (HEIGHT + GAP) + GAP
    entries, legend_height = _legend(legend, width)
    groups = [
        f'<g transform="translate({GAP + (i % columns) * (WIDTH + GAP)},{GAP + (i // columns) * (HEIGHT + GAP)})">'
        f"{panel.markup}</g>"
        for i, panel in enumerate(panels)
    ]
    light = f"--ink: {INK}; --muted: {MUTED}; --rule: {RULE}; --surface: {SURFACE}; {colour_variables(LIGHT)}"
    dark = f"--ink: #f1edf2; --muted: #a59fab; --rule: #35323b; --surface: #17161b; {colour_variables(DARK)}"
    height = top + legend_height + GAP
    label = quoteattr("Score over shots. " + " ".join(p.description + "." for p in panels))
    css = f"svg {{ {light} }}\n@media (prefers-color-scheme: dark) {{ svg {{ {dark} }} }}\n{style()}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" aria-label={label}>\n<style>\n{plain_style() if plain else css}\n</style>\n'
        f'<rect width="{width}" height="{height}" rx="10" fill="{SURFACE if plain else "var(--surface)"}"/>\n'
        + "\n".join(groups)
        + f'\n<g transform="translate({GAP},{top})">{entries}</g>\n</svg>\n'
    )


def _legend(series: Sequence[Series], width: int) -> tuple[str, int]:
    """The legend's markup and height; entries are laid out in lines by their estimated width."""
    out, x, y = [], 0.0, 0
    for s in series:
        entry_width = 42 + 6.4 * len(s.label)
        if x and x + entry_width > width - 2 * GAP:
            x, y = 0.0, y + LEGEND_LINE
        out.append(
            f'<g class="{s.style}" transform="translate({x:.0f},{y})"><polyline class="line" points="0,6 24,6"/>'
            f'<circle class="point" cx="12" cy="6" r="3.6"/>{_text(32, 10, s.label, "small")}</g>'
        )
        x += entry_width
    return "\n".join(out), y + LEGEND_LINE
