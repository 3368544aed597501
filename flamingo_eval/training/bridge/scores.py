"""The harness on the current weights: scores over updates, one curve per number of shots."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from html import escape
from pathlib import Path

import torch

from flamingo_eval.api import Model
from flamingo_eval.evaluation import evaluate
from flamingo_eval.files import write_atomically
from flamingo_eval.models.checkpoint import meta_flamingo
from flamingo_eval.models.flamingo import Flamingo
from flamingo_eval.models.tokenizer import Tokenizer
from flamingo_eval.report.figure import INK, LIGHT, MUTED, RULE, SURFACE, axis
from flamingo_eval.training.bridge.network import Bridge
from flamingo_eval.training.bridge.ranks import whole
from flamingo_eval.training.bridge.recipe import EvaluateSpec

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM, GAP = 360, 240, 44, 14, 40, 34, 16


class CurrentWeights:
    """The network in training as a model of the harness, described in the record of a run."""

    def __init__(self, model: Model, name: str, update: int) -> None:
        self.name, self.sha256 = name, f"update-{update}"
        self.device, self.dtype = model.device.type, str(model.dtype)
        self._engine = model.engine
        self.generate, self.score, self.best = self._engine.generate, self._engine.score, self._engine.best


def scores_of(
    bridge: Bridge, tokenizer: Tokenizer, spec: EvaluateSpec, out: Path, name: str, update: int
) -> list[dict[str, float | int | str]]:
    """Rows of scores.csv: update, task, metric, shots, score, and its interval if there is one."""
    with _written_rows(bridge), _answering(bridge) as flamingo:
        model = Model(flamingo, tokenizer, out)
        done = evaluate(
            CurrentWeights(model, name, update),
            spec.tasks,
            shots=spec.shots,
            seeds=spec.seed,
            data=spec.data,
            protocol=spec.protocol,
            limit=spec.limit,
            out=out,
            fresh=True,
        )
    rows: list[dict[str, float | int | str]] = []
    for run in done.runs:
        score = run.scores[0]
        row: dict[str, float | int | str] = {
            "update": update,
            "task": run.spec.task.name,
            "metric": score.metric,
            "shots": run.spec.demos.shots,
            "score": math.nan if score.value is None else score.value,
        }
        if score.ci95 is not None:
            row |= {"low": score.ci95[0], "high": score.ci95[1]}
        rows.append(row)
    return rows


@contextmanager
def _answering(bridge: Bridge) -> Iterator[Flamingo]:
    """A Flamingo with the current weights, in the dtype of the frozen parts, which are shared."""
    trained = bridge.flamingo
    kind = trained.decoder.embedding.weight.dtype
    if hasattr(trained.decoder.embedding.weight, "full_tensor"):  # shards: a whole copy during the evaluation
        weights = {name: whole(value.detach()).to(kind) for name, value in trained.state_dict().items()}
        flamingo = meta_flamingo(trained.config)
        flamingo.load_state_dict(weights, assign=True)
    else:
        flamingo = meta_flamingo(trained.config)
        flamingo.vision, flamingo.decoder = trained.vision, trained.decoder
        flamingo.xattn = copy.deepcopy(trained.xattn).to(kind)
        flamingo.resampler = copy.deepcopy(trained.resampler)
        if flamingo.resampler is not None:
            flamingo.resampler.to(kind)
    yield flamingo.requires_grad_(False).eval()


@contextmanager
def _written_rows(bridge: Bridge) -> Iterator[None]:
    """The rows of new tokens are copied into the frozen embedding and head during the evaluation."""
    rows, decoder = bridge.new_rows, bridge.flamingo.decoder
    if rows is None:
        yield
        return
    places = [(decoder.embedding.weight, rows.embedding)]
    if decoder.head is not None and rows.head is not None:
        places.append((decoder.head.weight, rows.head))
    span = slice(rows.first, rows.first + rows.n)
    before = [weight[span].detach().clone() for weight, _ in places]
    with torch.no_grad():
        for weight, own in places:
            weight[span] = own.to(weight.dtype)
    try:
        yield
    finally:
        with torch.no_grad():
            for (weight, _), old in zip(places, before, strict=True):
                weight[span] = old


def write_figure(path: Path, rows: Sequence[Mapping[str, str]]) -> None:
    """scores.svg: one panel per task and metric, score over updates, a curve for each number of shots."""
    panels: dict[tuple[str, str], dict[int, list[tuple[int, float]]]] = {}
    for row in rows:
        value = float(row["score"])
        if math.isfinite(value):
            curves = panels.setdefault((row["task"], row["metric"]), {})
            curves.setdefault(int(row["shots"]), []).append((int(row["update"]), value))
    if not panels:
        return
    width = len(panels) * (WIDTH + GAP) + GAP
    height = HEIGHT + 2 * GAP
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'font-family="system-ui, sans-serif" font-size="10" fill="{MUTED}">',
        f'<rect width="{width}" height="{height}" fill="{SURFACE}"/>',
    ]
    for i, ((task, metric), curves) in enumerate(panels.items()):
        out.append(f'<g transform="translate({GAP + i * (WIDTH + GAP)} {GAP})">')
        out += _panel(f"{task}, {metric}", {f"{k} shots": points for k, points in sorted(curves.items())})
        out.append("</g>")
    out.append("</svg>")
    write_atomically(path, "\n".join(out) + "\n")


def _panel(title: str, curves: Mapping[str, Sequence[tuple[int, float]]]) -> Iterator[str]:
    values = [v for points in curves.values() for _, v in points]
    updates = [u for points in curves.values() for u, _ in points]
    low, high, step = axis(values)
    first, last = min(updates), max(*updates, min(updates) + 1)

    def x(update: int) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (update - first) / (last - first)

    def y(value: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value - low) / (high - low)

    yield f'<text x="{LEFT - 30}" y="14" font-size="12.5" font-weight="600" fill="{INK}">{escape(title)}</text>'
    for i in range(round((high - low) / step) + 1):
        v = low + i * step
        yield f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(v):.1f}" y2="{y(v):.1f}" stroke="{RULE}"/>'
        yield f'<text x="{LEFT - 6}" y="{y(v) + 3.5:.1f}" text-anchor="end">{v:g}</text>'
    for u in dict.fromkeys((first, (first + last) // 2, last)):
        yield f'<text x="{x(u):.1f}" y="{HEIGHT - BOTTOM + 15}" text-anchor="middle">{u:,}</text>'
    yield f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 4}" text-anchor="middle">updates</text>'
    place = LEFT
    for (label, points), colour in zip(curves.items(), LIGHT * 4, strict=False):
        marks = " ".join(f"{x(u):.1f},{y(v):.1f}" for u, v in points)
        yield f'<polyline points="{marks}" fill="none" stroke="{colour}" stroke-width="2" stroke-linejoin="round"/>'
        for u, v in points:
            hint = escape(f"{label}, update {u:,}: {v:.1f}")
            yield f'<circle cx="{x(u):.1f}" cy="{y(v):.1f}" r="2.6" fill="{colour}"><title>{hint}</title></circle>'
        yield f'<text x="{place}" y="29" fill="{colour}">{escape(label)}</text>'
        place += 14 + 6 * len(label)
