"""flamingo-eval score: the metric alone, for predictions made anywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flamingo_eval.cli.options import Data, Json, Split, Task


def score(
    task: Task,
    predictions: Annotated[Path, typer.Option(metavar="FILE", help="JSON lines: id and prediction, or id and scores.")],
    data: Data = None,
    split: Split = None,
    dialect: Annotated[str, typer.Option(help="Dialect of the metric, e.g. openflamingo; default: the task's.")] = "",
    as_json: Json = False,
) -> None:
    """Score a predictions file with a task's metrics; no model is loaded and no picture is opened.

    Predictions are taken as they are. Without --split the labelled split that is found is taken, and named.
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
    read, examples = read_predictions(predictions, spec, loaded)
    scores, per_example = score_all(read, examples, metrics)
    head = scores[0]
    if as_json:
        print_json(
            {
                "task": spec.name,
                "split": name,
                "metric": head.metric,
                "value": head.value,
                "n": head.n,
                "ci95": head.ci95,
                "why_undefined": head.why_undefined,
                "scores": [{k: v for k, v in dataclasses.asdict(s).items() if k != "draws"} for s in scores],
                "per_example": {p.id: v for p, v in zip(read, per_example, strict=True)},
            }
        )
        return
    rows: list[tuple[str, str, str, str]] = []
    for s in scores:
        ci = f"{s.ci95[0]:.2f} .. {s.ci95[1]:.2f}" if s.ci95 else ""
        rows.append((s.metric, _number(s.value), ci, str(s.n)))
        rows += [(f"  {key}", _number(value), "", "") for key, value in s.breakdown.items()]
    say(f"{spec.name}, split {name}" + ("" if split else " (the labelled split found; choose with --split)"))
    print_table(("metric", "value", "95 % interval", "n"), rows, numbers_from=1)
    for s in scores:
        for key, value in s.notes.items():
            say(f"{s.metric}: {key}: {value}")
        if s.value is None:
            say(f"{s.metric} is undefined: {s.why_undefined}")


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.6f}"
