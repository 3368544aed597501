"""flamingo-eval export: the prompts of runs as data, to be answered by any other program."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from flamingo_eval.cli.options import Model, ModelArgs, PlanOptions, Protocol, Tasks, one_of, spread

MEDIA = ("paths", "copy")
FORMATS = ("prompts", "lm-eval-samples")


@spread
def export(
    *,
    out: Annotated[Path, typer.Option(metavar="FILE", help="The JSON lines file to write.")],
    tasks: Tasks = None,
    media: Annotated[
        str,
        typer.Option(
            help="paths: the data's own files; copy: copies next to FILE, named by content.",
            autocompletion=one_of(*MEDIA),
        ),
    ] = "paths",
    plan: PlanOptions,
    protocol: Protocol = None,
    model: Model = None,
    model_args: ModelArgs = "",
    format: Annotated[
        str,
        typer.Option(
            "--format",
            help="prompts; lm-eval-samples: a finished RUN instead of TASK, as a per-sample log of the harnesses.",
            autocompletion=one_of(*FORMATS),
        ),
    ] = "prompts",
) -> None:
    """Write every prompt of TASK... to a file: one JSON line for each query of each number of shots and seed.

    The prompts are those of `run` with the same options. Answer them with any program; then
    `flamingo-eval score TASK --predictions ANSWERS --name MODEL` turns the answers into a run in the results folder.
    """
    from flamingo_eval.backends.choice import choose_model
    from flamingo_eval.backends.shape import default_protocol
    from flamingo_eval.cli.choices import chosen
    from flamingo_eval.cli.console import say
    from flamingo_eval.cli.option_checks import Checks, check_names, check_out_file, require_known
    from flamingo_eval.config.settings import load_settings
    from flamingo_eval.runs.backend import load_backend
    from flamingo_eval.runs.export import Exporter, MediaCopies
    from flamingo_eval.runs.plan import plan_runs
    from flamingo_eval.runs.questions import load_questions

    checks = Checks()
    checks.attempt(
        lambda: require_known(
            (media, "--media", ("paths", "copy")), (format, "--format", ("prompts", "lm-eval-samples"))
        )
    )
    checks.attempt(lambda: check_out_file(out))
    settings = load_settings()
    choices = checks.attempt(lambda: chosen(plan))
    choice = checks.attempt(lambda: choose_model(model or settings.model, model_args))
    names = [] if format == "lm-eval-samples" else check_names(checks, tasks or [], protocol or settings.protocol)
    checks.require()
    assert choices is not None
    assert choice is not None
    if format == "lm-eval-samples":
        _samples(tasks or [], out, plan.data, choices.images)
        return
    named = protocol or settings.protocol
    questions, notes = load_questions(names, named or default_protocol(choice)[0], choices.rank, usual=not named)
    for note in notes:
        say(note)
    runs = plan_runs(questions, choices)
    copies = MediaCopies(out.with_name(f"{out.stem}-media")) if media == "copy" else None
    has_rices = any(run.ranked_by_model for run in runs)
    if has_rices:
        say(f"loading {choice}, which chooses the demonstrations")
    exporter = Exporter(copies, load_backend(choice) if has_rices else None)
    n = _write_lines(out, exporter.lines(runs))
    pictures = f", {len(set(copies.names.values()))} pictures and clips in {copies.folder}" if copies else ""
    say(f"{out}: {n} prompts of {len(runs)} runs{pictures}")
    if exporter.first is not None:
        say(f"query {exporter.first.query.id}, shots {', '.join(s.id for s in exporter.first.shots) or 'none'}, ...")
    for query, reason in list(exporter.failed.items())[:20]:
        say(f"left out: {query}: {reason}")
    if len(exporter.failed) > 20:
        say(f"left out: {len(exporter.failed)} in all")


def _write_lines(out: Path, lines: Iterable[Mapping[str, Any]]) -> int:
    """Write JSON lines one by one, under a temporary name until all are written; returns their number."""
    import json

    from flamingo_eval.files import write_error

    part, n = out.with_name(f".{out.name}.tmp"), 0
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        try:
            with part.open("w", encoding="utf-8") as file:
                for line in lines:
                    file.write(json.dumps(line, ensure_ascii=False) + "\n")
                    n += 1
            part.replace(out)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise write_error(out, error) from error
    return n


def _samples(folders: list[str], out: Path, data: str | None, images: tuple[str, ...]) -> None:
    """Write the per-sample log of one run."""
    from flamingo_eval.cli.console import say
    from flamingo_eval.errors import UsageError
    from flamingo_eval.report.diff import one_run
    from flamingo_eval.report.recorded_prompts import read_runs, task_prompts
    from flamingo_eval.report.samples_log import sample_lines

    if len(folders) != 1:
        raise UsageError(f"--format lm-eval-samples: expected one run, got {len(folders)}.")
    (run,) = read_runs([one_run(Path(folders[0]))])
    prompts, reason = task_prompts([run], data, images)
    n = _write_lines(out, sample_lines(run, prompts))
    say(f"{out}: {n} samples" + (f"; without prompts and targets: {reason}" if reason else ""))
    if n_failed := len(run.outputs) - n:
        say(f"left out: {n_failed} failed queries")
