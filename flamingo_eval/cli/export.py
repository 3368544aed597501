"""flamingo-eval export: every prompt of some runs as data, for answers made by any other program."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from flamingo_eval.cli.options import (
    Data,
    Images,
    Protocol,
    Split,
    complete_ablation,
    complete_demos,
    complete_task,
    numbers,
    one_of,
    task_list,
)


def export(
    tasks: Annotated[
        list[str],
        typer.Argument(metavar="TASK...", help="Task names, YAML files, or `all`.", autocompletion=complete_task),
    ],
    out: Annotated[Path, typer.Option(metavar="FILE", help="The JSON lines file to write.")],
    media: Annotated[
        str,
        typer.Option(
            help="paths: the data's own files; copy: copies beside FILE, named by content.",
            autocompletion=one_of("paths", "copy"),
        ),
    ] = "paths",
    shots: Annotated[str, typer.Option(help="Numbers of demonstrations, as 0,4,8,16,32.")] = "4",
    seeds: Annotated[str, typer.Option(help="Seeds of the demonstrations, as 0,1,2.")] = "0",
    data: Data = None,
    images: Images = None,
    split: Split = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many queries, the same for all seeds.")] = None,
    demos: Annotated[
        str, typer.Option(help="random, balanced, fixed or official.", autocompletion=complete_demos)
    ] = "random",
    demos_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help='JSON lines with the shots of every query: {"id": ..., "shots": [...]}.'),
    ] = None,
    support_size: Annotated[
        int | None, typer.Option(min=0, help="Support examples drawn per seed; 0: the whole split.")
    ] = None,
    ablation: Annotated[
        str, typer.Option(help="Change the prompts as `run --ablation` does.", autocompletion=complete_ablation)
    ] = "",
    protocol: Protocol = None,
    on_error: Annotated[str, typer.Option(help="stop, or skip: queries with missing files are left out.")] = "stop",
    format: Annotated[
        str,
        typer.Option(
            "--format",
            help="prompts; lm-eval-samples: a finished RUN in the place of TASK as the harnesses' per-sample log.",
            autocompletion=one_of("prompts", "lm-eval-samples"),
        ),
    ] = "prompts",
) -> None:
    """Write every prompt of TASK... to a file: one JSON line for each query of each number of shots and seed.

    The prompts are those that `run` shows with the same options. Answer them with any program, then
    `flamingo-eval score TASK --predictions ANSWERS --name MODEL` makes the answers a run in the results folder.
    """
    from typing import cast, get_args

    from flamingo_eval.cli.console import say
    from flamingo_eval.config.settings import data_choice, image_folders, load_settings
    from flamingo_eval.config.specs import DemoMethod, OnError
    from flamingo_eval.errors import UsageError, did_you_mean
    from flamingo_eval.runs.export import Exporter, MediaCopies, require_no_model
    from flamingo_eval.runs.plan import Choices, load_questions, plan_runs

    for value, name, known in (
        (demos, "--demos", get_args(DemoMethod)),
        (on_error, "--on-error", get_args(OnError)),
        (media, "--media", ("paths", "copy")),
        (format, "--format", ("prompts", "lm-eval-samples")),
    ):
        if value not in known:
            raise UsageError(f"{name} {value}: {did_you_mean(value, known) or 'unknown.'} One of: {', '.join(known)}.")
    if demos_file is None and demos == "file":
        raise UsageError("--demos file: the file is missing.", fix="Give it with --demos-file FILE.")
    if demos_file is not None and demos not in ("random", "file"):
        raise UsageError(f"--demos {demos} and --demos-file: the file names the shots.", fix="Leave --demos out.")
    if out.is_dir():
        raise UsageError(f"--out {out}: it is a folder.", fix="Give a file, for example episodes.jsonl.")
    if format == "lm-eval-samples":
        _samples(tasks, out, data)
        return
    settings = load_settings()
    choices = Choices(
        shots=numbers(shots, "--shots"),
        seeds=numbers(seeds, "--seeds"),
        demos=cast(DemoMethod, "file" if demos_file else demos),
        demos_file=demos_file,
        support_size=support_size,
        limit=limit,
        ablation=ablation,
        data=data_choice(data),
        images=image_folders(images),
        split=split,
        on_error=cast(OnError, on_error),
    )
    questions, remarks = load_questions(task_list(tasks), protocol or settings.protocol or "flamingo")
    for remark in remarks:
        say(remark)
    runs = plan_runs(questions, choices)
    require_no_model(runs)
    copies = MediaCopies(out.with_name(f"{out.stem}-media")) if media == "copy" else None
    exporter = Exporter(copies)
    n = _write_lines(out, exporter.lines(runs))
    pictures = f", {len(set(copies.names.values()))} pictures and clips in {copies.folder}" if copies else ""
    say(f"{out}: {n} prompts of {len(runs)} runs{pictures}")
    for query, why in list(exporter.failed.items())[:20]:
        say(f"left out: {query}: {why}")
    if len(exporter.failed) > 20:
        say(f"left out: {len(exporter.failed)} in all")


def _write_lines(out: Path, lines: Iterable[Mapping[str, Any]]) -> int:
    """Write JSON lines as they are made, under a temporary name until the last is there; returns their number."""
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


def _samples(places: list[str], out: Path, data: str | None) -> None:
    """Write the per-sample log of the one run that is named."""
    from flamingo_eval.cli.console import say
    from flamingo_eval.errors import UsageError
    from flamingo_eval.report.browser import read_runs
    from flamingo_eval.report.diff import one_run
    from flamingo_eval.report.samples_log import sample_lines, task_prompts

    if len(places) != 1:
        raise UsageError(f"--format lm-eval-samples: expected one run, got {len(places)}.")
    (run,) = read_runs([one_run(Path(places[0]))])
    prompts, why = task_prompts(run, data)
    n = _write_lines(out, sample_lines(run, prompts))
    say(f"{out}: {n} samples" + (f"; without prompts and targets: {why}" if why else ""))
    if failed := len(run.outputs) - n:
        say(f"left out: {failed} failed queries")
