"""flamingo-eval score: the metric alone, for predictions made anywhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flamingo_eval.cli.options import Data, Json, Split, Task

if TYPE_CHECKING:
    from flamingo_eval.records import Score

SHORT = 12  # rows of breakdown that are printed without being asked for


def score(
    task: Task,
    predictions: Annotated[Path, typer.Option(metavar="FILE", help="Answers: JSON lines, a results list, a map, CSV.")],
    data: Data = None,
    split: Split = None,
    dialect: Annotated[str, typer.Option(help="Dialect of the metric, e.g. openflamingo; default: the task's.")] = "",
    partial: Annotated[bool, typer.Option("--partial", help="Score the answers that are there.")] = False,
    breakdown: Annotated[bool, typer.Option("--breakdown", help="Print breakdowns, however long.")] = False,
    as_json: Json = False,
) -> None:
    """Score a predictions file with a task's metrics; no model is loaded and no picture is opened.

    Reads JSON lines, results lists of evaluation servers, id-to-answer maps, CSV, per-sample logs of
    lm-evaluation-harness and lmms-eval, and a run's outputs.jsonl. Predictions are taken as they are. Without --split
    the labelled split that is found is taken, and named.
    """
    import dataclasses

    from flamingo_eval.cli.console import print_json, print_table, say
    from flamingo_eval.config.names import find_task
    from flamingo_eval.config.settings import data_choice
    from flamingo_eval.data import layouts
    from flamingo_eval.data.roots import data_root
    from flamingo_eval.data.task_file import load_task
    from flamingo_eval.errors import DataError
    from flamingo_eval.metrics import own_dialect
    from flamingo_eval.metrics.scoring import score_all
    from flamingo_eval.runs.predictions import read_predictions

    spec = load_task(find_task(task))
    metrics = own_dialect(spec.metrics, dialect)
    root = data_root(data_choice(data), spec.name)
    loaded = layouts.load_split(spec, root, split, media=False) if split else layouts.load_labelled(spec, root)
    name = loaded.name
    if not loaded.labelled:
        raise DataError(
            f"{spec.name}: split '{name}' has no public answers.", fix="Score a labelled split with --split."
        )
    read = read_predictions(predictions, spec, loaded, partial=partial)
    scores, per_example = score_all(read.predictions, read.examples, metrics)
    if read.partial:
        scores = [dataclasses.replace(s, notes={**s.notes, "queries": read.partial}) for s in scores]
    if as_json:
        head = scores[0]
        print_json(
            {
                "task": spec.name,
                "split": name,
                "metric": head.metric,
                "value": head.value,
                "n": head.n,
                "of": read.of,
                "partial": read.partial,
                "form": read.form,
                "ci95": head.ci95,
                "why_undefined": head.why_undefined,
                "scores": [{k: v for k, v in dataclasses.asdict(s).items() if k != "draws"} for s in scores],
                "per_example": {p.id: v for p, v in zip(read.predictions, per_example, strict=True)},
            }
        )
        return
    say(f"{spec.name}, split {name}" + ("" if split else " (the labelled split that is here; choose with --split)"))
    say(f"predictions: {read.form}")
    long = sum(len(s.breakdown) for s in scores) > SHORT and not breakdown
    rows: list[tuple[str, str, str, str]] = []
    for s in scores:
        ci = f"{s.ci95[0]:.2f} .. {s.ci95[1]:.2f}" if s.ci95 else ""
        rows.append((s.metric, _number(s.value), ci, str(s.n)))
        if not long:
            rows += [(f"  {key}", _number(value), "", "") for key, value in s.breakdown.items()]
    print_table(("metric", "value", "95 % interval", "n"), rows, numbers_from=1)
    if long:
        say(f"{sum(len(s.breakdown) for s in scores)} values by group: print them with --breakdown")
    for s in scores:
        for key, value in s.notes.items():
            say(f"{s.metric}: {key}: {value}")
        if s.value is None:
            say(f"{s.metric} is undefined: {s.why_undefined}")
    print(_headline(f"{spec.name}, {name}", scores[0], read.partial))


def _headline(what: str, score: Score, partial: str) -> str:
    """The last line: the number that is quoted, and what must be quoted with it."""
    from flamingo_eval.metrics import metric_row

    interval = f", 95 % interval {score.ci95[0]:.2f} to {score.ci95[1]:.2f}" if score.ci95 else ""
    dialect = f" ({score.notes['dialect']})" if score.notes.get("dialect") else ""
    text = f"{what}: {metric_row(score.metric).title}{dialect} {_number(score.value)}{interval}, n = {score.n:,}"
    return f"{text} ({partial})" if partial else text


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.6f}"
