"""flamingo-eval run: evaluate a model on tasks at several shots and seeds, and print the table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flamingo_eval.cli.options import Json, Model, ModelArgs, PlanOptions, Protocol, Tasks, spread

if TYPE_CHECKING:
    from flamingo_eval.backends.choice import ModelChoice
    from flamingo_eval.distributed.spec import Deployment
    from flamingo_eval.report.expectations import Expectation
    from flamingo_eval.runs.plan import PlannedRun
    from flamingo_eval.runs.runner import FinishedRun

TINY = "tiny"
FOLDERS_NAMED = 3  # lines for run folders, one per task and model; if there are more, only the common folder


@spread
def run(
    *,
    tasks: Tasks = None,
    model: Model = None,
    model_args: ModelArgs = "",
    plan: PlanOptions,
    features_of: Annotated[
        str | None, typer.Option(metavar="MODEL", help="rices: compare by this model's features (servers give none).")
    ] = None,
    protocol: Protocol = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")] = "auto",
    batch_size: Annotated[str, typer.Option(help="auto, or prompts per batch; does not change the answers.")] = "auto",
    workers: Annotated[
        int | None, typer.Option(min=0, help="Processes that decode media; default: by the machine.")
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder of run folders; default: results/.")] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Run finished and interrupted runs again from the start.")
    ] = False,
    ray: Annotated[
        str | None, typer.Option(metavar="ADDRESS|local", help="Replicas on a Ray cluster, or on this machine.")
    ] = None,
    replicas: Annotated[str, typer.Option(help="With --ray: auto, or the number of copies of the model.")] = "auto",
    gpus_per_replica: Annotated[
        int | None, typer.Option(min=0, help="With --ray: 0 or 1; default: 1 if there are GPUs.")
    ] = None,
    tensor_parallel: Annotated[int, typer.Option(min=1, help="Under torchrun: ranks that share one model.")] = 1,
    expect: Annotated[
        list[str] | None,
        typer.Option(
            "--expect", metavar="BOUND", help="Exit with code 4 unless this holds, e.g. 'vqav2 4 >= 60'; repeatable."
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would run and its lowest possible cost; run nothing.")
    ] = False,
    tflops: Annotated[
        float | None, typer.Option(min=0.001, help="With --dry-run: TFLOP/s of a replica; default: measured here.")
    ] = None,
    price: Annotated[float | None, typer.Option(min=0, help="With --dry-run: price of a replica per hour.")] = None,
    max_requests: Annotated[
        int | None, typer.Option(min=1, help="Servers: send at most this many requests, then stop; resume later.")
    ] = None,
    max_tokens: Annotated[
        int | None, typer.Option(min=1, help="Servers: stop before more tokens than this are used.")
    ] = None,
    as_json: Json = False,
    tasks_option: Annotated[str | None, typer.Option("--tasks", hidden=True)] = None,  # as in lm-evaluation-harness
    num_fewshot: Annotated[str | None, typer.Option("--num_fewshot", hidden=True)] = None,
    output_path: Annotated[Path | None, typer.Option("--output_path", hidden=True)] = None,
) -> None:
    """Evaluate a model on TASK... and print the table.

    Without --data a task runs on the embedded sample, without --model on the bundled tiny checkpoint. The same command
    resumes an interrupted run; for a finished run it prints the table again.
    """
    from flamingo_eval.backends.choice import choose_model, with_limits
    from flamingo_eval.cli.choices import check_plan, chosen
    from flamingo_eval.cli.option_checks import Checks, check_deployment, check_names, check_out_runs
    from flamingo_eval.config.settings import load_settings
    from flamingo_eval.errors import UsageError
    from flamingo_eval.models import model_folder

    checks = Checks()
    settings = load_settings()
    destination = output_path or out or Path(settings.out)
    task_names = [*(tasks or []), *([tasks_option] if tasks_option else [])]
    checks.attempt(
        lambda: check_deployment(device, dtype, batch_size, ray, replicas, gpus_per_replica, tensor_parallel)
    )
    if not dry_run:
        checks.attempt(lambda: check_out_runs(destination, fresh))
    if num_fewshot:
        plan = replace(plan, shots=num_fewshot)
    checks.attempt(lambda: check_plan(plan))
    if not dry_run and (tflops is not None or price is not None):
        checks.add(UsageError("--tflops and --price need --dry-run.", fix="Add --dry-run."))
    choice = checks.attempt(
        lambda: with_limits(choose_model(model or settings.model, model_args), max_requests, max_tokens)
    )
    if choice is not None and choice.scheme == "bundled" and not dry_run:
        target = choice.target
        checks.attempt(lambda: model_folder(target))
    if expect:
        from flamingo_eval.report.expectations import parse_expectations

        checks.attempt(lambda: parse_expectations(expect))
    names = check_names(checks, task_names, protocol or settings.protocol)
    checks.require()  # what follows takes a second to import
    from flamingo_eval.backends.shape import default_protocol
    from flamingo_eval.cli.console import say
    from flamingo_eval.distributed.environment import rank_environment
    from flamingo_eval.distributed.spec import Deployment
    from flamingo_eval.report.expectations import parse_expectations
    from flamingo_eval.runs.backend import features_label
    from flamingo_eval.runs.plan import plan_runs
    from flamingo_eval.runs.preflight import require_supported
    from flamingo_eval.runs.questions import load_questions

    choices = chosen(plan)
    assert choice is not None
    features = choose_model(features_of) if features_of else None
    if features is not None:
        choices = replace(choices, features=features_label(features))
    protocol_name, usual, reason = protocol or settings.protocol, "", ""
    if not protocol_name:
        usual, reason = default_protocol(choice)
    questions, notes = load_questions(names, protocol_name or usual, choices.rank, usual=not protocol_name)
    runs = plan_runs(questions, choices)
    require_supported(choice, runs)
    expectations = parse_expectations(expect or (), [(r.task_label, r.data.queries.name, r.demos.shots) for r in runs])
    if dry_run:
        from flamingo_eval.cli.dry_run import dry_run as say_what_it_takes

        say_what_it_takes(runs, choice, device, dtype, tflops, price, as_json)
        return
    deployment = Deployment(
        choice, device, dtype, batch_size, workers, ray, replicas, gpus_per_replica, tensor_parallel
    )
    rank_env = rank_environment() if ray is None else None
    quiet = as_json or (rank_env is not None and rank_env.rank > 0)
    if not quiet:
        for line in (*notes, *_banner(runs, str(choice), usual, reason), *_clips(runs, choice)):
            say(line)
    records = _answer(runs, deployment, destination, fresh, quiet, features)
    if records is not None:
        _print(records, as_json)
        require_expected(expectations, records)


def _banner(runs: list[PlannedRun], model: str, usual: str, reason: str) -> list[str]:
    """The lines printed before anything is computed: what will be measured."""
    from flamingo_eval.backends.choice import OWN_CLASS
    from flamingo_eval.config.settings import is_sample

    name_of_data = runs[0].data_name
    copy = f"a fresh copy, {name_of_data}" if name_of_data != "sample" else "the embedded sample"
    data = f"{copy} (not the benchmark)" if is_sample(name_of_data) else name_of_data
    name = "the bundled tiny checkpoint" if model == TINY else model
    tasks = ", ".join(dict.fromkeys(r.task_label for r in runs))
    count = "1 run" if len(runs) == 1 else f"{len(runs)} runs"
    if OWN_CLASS.fullmatch(model):
        name = f"{model} (your code runs in this process)"
    return [f"{tasks}: {name} on {data}, {_protocols(runs, usual, reason)}, {count}"]


def _clips(runs: list[PlannedRun], choice: ModelChoice) -> list[str]:
    """How clips are shown to a model that is not bundled."""
    from flamingo_eval.backends.shape import clips_shown

    if all(run.task.modality == "image" for run in runs):
        return []
    shown = clips_shown(choice)
    return [f"clips are shown {shown}"] if shown else []


def _protocols(runs: list[PlannedRun], usual: str, why: str) -> str:
    """`protocol flamingo`, and which tasks are asked in one of their own; `usual` is empty if the user named it."""
    tasks: dict[str, dict[str, None]] = {}
    for run in runs:
        tasks.setdefault(run.protocol.name, {})[run.task.name] = None
    names = []
    for name, task_names in sorted(tasks.items(), key=lambda item: item[0] != usual):
        if not usual:
            names.append(name)
        elif name == usual:
            names.append(f"{name} ({why})" if why else name)
        elif len(tasks) == 1:
            names.append(f"{name} (the task's own)" if len(task_names) == 1 else f"{name} (the tasks' own)")
        else:
            names.append(f"{name} for {', '.join(task_names)} ({'its' if len(task_names) == 1 else 'their'} own)")
    return f"protocol {', '.join(names)}"


def _answer(
    runs: list[PlannedRun],
    deployment: Deployment,
    out: Path,
    fresh: bool,
    quiet: bool,
    features: ModelChoice | None,
) -> list[FinishedRun] | None:
    """The finished runs; None in a process that only answers for another one (torchrun)."""
    from flamingo_eval.backends.choice import choose_model
    from flamingo_eval.backends.shape import shape_of
    from flamingo_eval.cli.option_checks import check_out_folder
    from flamingo_eval.cli.progress import Progress
    from flamingo_eval.distributed.launch import Launch, identity_before
    from flamingo_eval.runs.backend import features_of
    from flamingo_eval.runs.session import run_all

    progress = Progress(quiet)
    launch = Launch(deployment, progress.say)
    if launch.serves_only:
        with launch.open(runs):
            return None
    with launch.deciding():
        return run_all(
            runs,
            lambda unfinished: progress.opened(launch.open(unfinished), deployment.batch_size),
            out,
            identity=identity_before(deployment),
            shape=lambda: shape_of(choose_model(deployment.model)),
            fresh=fresh,
            settings={"batch_size": deployment.batch_size},
            observer=progress,
            features=None if features is None else lambda: features_of(features, deployment.device),
            require_writable=lambda: check_out_folder(out),
        )


def require_expected(expectations: Sequence[Expectation], records: Sequence[FinishedRun]) -> None:
    """Print a line for each --expect. Raises ExpectationError if one fails."""
    from flamingo_eval.cli.console import say
    from flamingo_eval.errors import ExpectationError, counted
    from flamingo_eval.report.expectations import check_expectations
    from flamingo_eval.report.tables import ALL_METRICS, table_of

    if not expectations:
        return
    outcomes = check_expectations(expectations, table_of([r.folder for r in records], [ALL_METRICS]))
    for outcome in outcomes:
        say(str(outcome))
    unmet = [o for o in outcomes if not o.met]
    if unmet:
        raise ExpectationError(f"{counted(len(unmet), 'expectation')} of {len(outcomes)} not met")


def _print(records: list[FinishedRun], as_json: bool) -> None:
    from flamingo_eval.cli.console import print_json, print_results, say
    from flamingo_eval.report.tables import table_of
    from flamingo_eval.runs.record import read_scores, scores_json

    if as_json:
        runs: list[dict[str, Any]] = [
            {"folder": str(r.folder.path), **scores_json(read_scores(r.folder.scores)), "seconds": r.seconds}
            for r in records
        ]
        print_json({"runs": runs})
        return
    print_results(table_of([r.folder for r in records]))
    folders = list(dict.fromkeys(r.folder.path.parent for r in records))
    if len(folders) > FOLDERS_NAMED:
        folders = [folders[0].parents[1]]  # out/<task>/<model>
    say(f"records: {', '.join(map(str, folders))}")
