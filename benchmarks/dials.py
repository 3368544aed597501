"""Accuracy over a dial of a fresh task, as a figure: `python -m benchmarks.dials` draws the one in docs/fresh-tasks.md.

Each point is a run of the bundled checkpoint on a separate copy; the same command resumes.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

WIDTH, HEIGHT = 300, 250
LEFT, RIGHT, TOP, BOTTOM = 44, 12, 40, 44
COLOURS = ("#7446b8", "#1f6fc4", "#1a8a5f", "#c81d6b")
Curves = dict[int, list[tuple[float, float]]]  # shots -> (value of the dial, accuracy)


def measured(task: str, seed: int, fixed: str, dial: str, values: Sequence[float], shots: str, out: Path) -> Curves:
    """Accuracy for every number of shots and every value of a dial."""
    names = [f"{task}@sample:{seed},{fixed},{dial}={value}" for value in values]
    words = [sys.executable, "-m", "flamingo_eval", "run", *names, "--shots", shots, "--out", str(out), "--json"]
    words += ["--protocol", "flamingo"]  # the protocol of the bundled checkpoint's training
    runs = json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout)["runs"]
    curves: Curves = {}
    for i, run in enumerate(runs):  # tasks in the order named, then shots
        value = values[i // (len(runs) // len(values))]
        curves.setdefault(int(run["shots"]), []).append((value, float(run["scores"][0]["value"])))
    return curves


def figure(panels: Sequence[tuple[str, float, Curves]], dial: str) -> str:
    """SVG: one panel per title, with a dashed line at the score of guessing among the shown names."""
    width = WIDTH * len(panels)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{HEIGHT}" viewBox="0 0 {width} {HEIGHT}" '
        f'font-family="system-ui, sans-serif" font-size="11" fill="#1d1a20">',
        f'<rect width="{width}" height="{HEIGHT}" fill="#ffffff"/>',
    ]
    for number, (title, chance, curves) in enumerate(panels):
        parts.append(f'<g transform="translate({number * WIDTH} 0)">{_panel(title, chance, curves, dial)}</g>')
    return "\n".join([*parts, "</svg>\n"])


def _panel(title: str, chance: float, curves: Curves, dial: str) -> str:
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    most = max(value for points in curves.values() for value, _ in points)

    def x(value: float) -> float:
        return LEFT + (right - LEFT - 30) * value / most

    def y(score: float) -> float:
        return bottom - (bottom - TOP) * score / 100

    parts = [f'<text x="{LEFT}" y="18" font-size="13" font-weight="600">{title}</text>']
    for mark in (0, 25, 50, 75, 100):
        parts.append(f'<line x1="{LEFT}" x2="{right}" y1="{y(mark):.1f}" y2="{y(mark):.1f}" stroke="#e7e2e6"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y(mark) + 4:.1f}" text-anchor="end" fill="#67616c">{mark}</text>')
    guess = f'y1="{y(chance):.1f}" y2="{y(chance):.1f}" stroke="#67616c" stroke-dasharray="4 3"'
    parts.append(f'<line x1="{LEFT}" x2="{right - 30}" {guess}/>')
    for colour, (shots, points) in zip(COLOURS, curves.items(), strict=False):
        line = " ".join(f"{x(value):.1f},{y(score):.1f}" for value, score in points)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x(v):.1f}" cy="{y(s):.1f}" r="3" fill="{colour}"/>' for v, s in points]
        last, score = points[-1]
        parts.append(f'<text x="{x(last) + 7:.1f}" y="{y(score) + 4:.1f}" fill="{colour}">{shots}</text>')
    for at, _ in next(iter(curves.values())):
        parts.append(f'<text x="{x(at):.1f}" y="{bottom + 16}" text-anchor="middle" fill="#67616c">{at:g}</text>')
    parts.append(f'<text x="{x(most / 2):.1f}" y="{bottom + 34}" text-anchor="middle">{dial}</text>')
    return "".join(parts)


def main() -> None:
    """Fast binding over occlusion, with two and with five names per round."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("results/dials"), help="run folders")
    parser.add_argument("--figure", type=Path, default=Path("docs/images/accuracy-over-occlusion.svg"))
    parser.add_argument("--queries", type=int, default=100)
    arguments = parser.parse_args()
    panels = []
    for ways in (2, 5):
        fixed = f"queries={arguments.queries},ways={ways}"
        values = (0.0, 0.2, 0.4, 0.6, 0.8)
        curves = measured("vl_icl_open_mi", 1, fixed, "occlusion", values, "0,1,2,5", arguments.out)
        panels.append((f"{ways} names a round", 100 / ways, curves))
    arguments.figure.write_text(figure(panels, "share of the object that is cut away"), encoding="utf-8")


if __name__ == "__main__":
    main()
