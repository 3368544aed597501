"""flamingo-eval score: the metrics of predictions made by any program."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flamingo_eval.cli.options import Data, Json, Split, Task

if TYPE_CHECKING:
    from flamingo_eval.records import Score

SHORT = 12  # rows of breakdown that are printed by default


def score(
    task: Task,
    predictions: Annotated[Path, typer.Option(metavar="FILE", help="Answers: JSON lines, a results list, a map, CSV.")],
    data: Data = None,
    split: Split = None,
    dialect: Annotated[str, typer.Option(help="Dialect of the metric, e.g. openflamingo; default: the task's.")] = "",
    partial: Annotated[
        bool, typer.Option("--partial", help="Score an incomplete file: only the answered queries.")
    ] = False,
    breakdown: Annotated[bool, typer.Option("--breakdown", help="Print all breakdowns.")] = False,
    name: Annotated[
        str, typer.Option(metavar="MODEL", help="Write a run folder under this name, for report and diff.")
    ] = "",
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="With --name: folder of run folders; default: results/.")
    ] = None,
    shots: Annotated[
        int | None, typer.Option(min=0, help="Number of demonstrations in the prompts of these answers.")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of the demonstrations.")] = None,
    queries_of: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Score only the queries of this finished run.")
    ] = None,
    protocol: Annotated[
        str,
        typer.Option(metavar="DIR", help="With --name: the folder of the exported prompts' protocol, if your own."),
    ] = "",
    as_json: Json = False,
) -> None:
    """Score a predictions file with a task's metrics; no model is loaded and no picture is opened.

    Reads JSON lines, results lists of evaluation servers, id-to-answer maps, CSV, per-sample logs of
    lm-evaluation-harness and lmms-eval, and a run's outputs.jsonl. Predictions are not changed. Without --split the
    first labelled split on disk is used and named.

    With --name the answers become a run like any other. Answered lines of `flamingo-eval export` contain their shots
    and seed; for a file with several runs, --shots and --seed choose one.
    """
    import dataclasses

    from flamingo_eval.cli.console import print_json, print_table, say
    from flamingo_eval.cli.option_checks import Checks, check_in_file, check_names, check_out_folder
    from flamingo_eval.config.settings import data_choice, load_settings, require_folders
    from flamingo_eval.data import layouts
    from flamingo_eval.data.roots import data_name, data_root
    from flamingo_eval.errors import DataError, UsageError
    from flamingo_eval.metrics.dialects import own_dialect
    from flamingo_eval.metrics.scoring import score_all
    from flamingo_eval.prompting.episodes import chosen_queries
    from flamingo_eval.prompting.support import most_brought
    from flamingo_eval.report.diff import one_run, outputs_by_id
    from flamingo_eval.report.recorded_prompts import read_runs
    from flamingo_eval.runs.external import (
        Stated,
        exported_run,
        external_spec,
        load_answered,
        with_prescribed_shots,
        write_external,
    )
    from flamingo_eval.runs.folder import BELOW
    from flamingo_eval.runs.prediction_forms import read_rows
    from flamingo_eval.runs.predictions import PARTIAL_NOTE, example_line, read_predictions
    from flamingo_eval.runs.questions import load_named_task

    checks = Checks()
    if name:
        checks.attempt(lambda: check_out_folder(out or Path(load_settings().out)))
    elif out is not None:
        checks.add(UsageError("--out needs --name: only named answers become a run folder.", fix="Add --name MODEL."))
    checks.attempt(lambda: check_in_file(predictions, "--predictions"))
    checks.attempt(lambda: require_folders(data_choice(data)))
    check_names(checks, [task], protocol)
    checks.require()
    spec, own_code = load_named_task(task)
    for line in own_code:
        say(line)
    metrics = own_dialect(spec.metrics, dialect)
    root = data_root(data_choice(data), spec.name)
    exported = exported_run(read_rows(predictions, example_line(spec)).rows, spec.name, shots, seed)
    baseline = read_runs([one_run(queries_of)])[0] if queries_of is not None else None
    if baseline is not None and baseline.spec.task.name != spec.name:
        raise UsageError(f"--queries-of {queries_of}: a run of {baseline.spec.task.name}, not of {spec.name}.")
    split = split or (baseline.spec.split if baseline else exported.split if exported else None)
    split_data = layouts.load_split(spec, root, split, media=False) if split else layouts.load_labelled(spec, root)
    if not split_data.labelled:
        raise DataError(
            f"{spec.name}: split '{split_data.name}' has no public answers.", fix="Score a labelled split with --split."
        )
    limit = baseline.spec.limit if baseline else exported.limit if exported else None
    queries: Iterable[str] | None = None
    if baseline is not None:
        queries = outputs_by_id(baseline.folder)
    elif limit is not None:
        queries = [e.id for e in chosen_queries(split_data, spec.name, limit, "")]
    file = read_predictions(
        predictions,
        spec,
        split_data,
        partial=partial,
        queries=queries,
        only=exported.selection if exported else None,
    )
    folder = None
    if name:
        stated = Stated(name, shots, seed, limit, dialect, protocol)
        ablation = exported.ablation if exported else ""
        task_data = load_answered(dataclasses.replace(spec, metrics=metrics), root, split_data.name, ablation)
        run_spec, unknown = external_spec(task_data, data_name(data_choice(data), spec.name), stated, exported)
        run = write_external(run_spec, task_data, file, predictions, unknown, out or Path(load_settings().out))
        scores, per_example, folder = list(run.scores), list(run.per_example), run.folder.path
    else:
        scores, per_example = score_all(file.predictions, file.examples, metrics)
        if most_brought(file.examples) is not None and spec.data.support is not None:
            support = layouts.load_split(spec, root, spec.data.support, media=False)
            shown = {e.id: e for e in support.examples}
            n_shots, draw = (exported.shots, exported.seed) if exported else (shots, seed or 0)
            used = dataclasses.replace(spec, metrics=metrics)
            scores = with_prescribed_shots(scores, used, file.examples, shown, n_shots, draw, file.shots)
        if file.partial:
            scores = [dataclasses.replace(s, notes={**s.notes, PARTIAL_NOTE: file.partial}) for s in scores]
    if as_json:
        headline = scores[0]
        print_json(
            {
                "task": spec.name,
                "split": split_data.name,
                "metric": headline.metric,
                "value": headline.value,
                "n": headline.n,
                "of": file.of,
                "partial": file.partial,
                "form": file.form,
                "folder": str(folder) if folder else None,
                "ci95": headline.ci95,
                "why_undefined": headline.why_undefined,
                "scores": [{k: v for k, v in dataclasses.asdict(s).items() if k != "draws"} for s in scores],
                "per_example": {p.id: v for p, v in zip(file.predictions, per_example, strict=True)},
            }
        )
        return
    say(
        f"{spec.name}, split {split_data.name}"
        + ("" if split else " (the only labelled split here; choose with --split)")
    )
    say(f"predictions: {file.form}")
    if folder is not None:
        say(f"record: {folder}")
    long = sum(len(s.breakdown) for s in scores) > SHORT and not breakdown
    rows: list[tuple[str, str, str, str]] = []
    for s in scores:
        ci = f"{s.ci95[0]:.2f} .. {s.ci95[1]:.2f}" if s.ci95 else ""
        rows.append((s.metric, _number(s.value), ci, str(s.n)))
        rows += [(f"  {key}", _number(value), "", "") for key, value in s.breakdown.items() if not long or key in BELOW]
    print_table(("metric", "value", "95 % interval", "n"), rows, numbers_from=1)
    if long:
        say(f"{sum(len(s.breakdown) for s in scores)} values by group: print them with --breakdown")
    for s in scores:
        for key, value in s.notes.items():
            say(f"{s.metric}: {key}: {value}")
        if s.value is None:
            say(f"{s.metric} is undefined: {s.why_undefined}")
    print(_headline(f"{spec.name}, {split_data.name}", scores[0], file.partial))


def _headline(what: str, score: Score, partial: str) -> str:
    """The last line: the score, with everything that must be quoted with it."""
    from flamingo_eval.metrics import metric_row

    interval = f", 95 % interval {score.ci95[0]:.2f} to {score.ci95[1]:.2f}" if score.ci95 else ""
    dialect = f" ({score.notes['dialect']})" if score.notes.get("dialect") else ""
    text = f"{what}: {metric_row(score.metric).title}{dialect} {_number(score.value)}{interval}, n = {score.n:,}"
    return f"{text} ({partial})" if partial else text


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.6f}"
