"""flamingo-eval smoke: check that a checkpoint works, for the CI of a model repository."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from flamingo_eval.cli.options import Json, one_of

NAMES = ("loads", "answers", "ranks", "batches", "resumes", "pictures", "shots", "memory")


def smoke(
    model: Annotated[str | None, typer.Option(help="As for run; default: the bundled `tiny`.")] = None,
    model_args: Annotated[str, typer.Option("--model-args", metavar="NAME=VALUE,...", help="As for run.")] = "",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")] = "auto",
    skip: Annotated[
        list[str] | None,
        typer.Option(metavar="CHECK", help=f"Skip a check: {', '.join(NAMES)}.", autocompletion=one_of(*NAMES)),
    ] = None,
    max_memory_gb: Annotated[
        float | None,
        typer.Option("--max-memory-gb", min=0, help="Fail if the peak memory of the process is above this."),
    ] = None,
    junit: Annotated[
        Path | None, typer.Option("--junit", metavar="FILE", help="Also write the results as JUnit XML.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Check that a model loads, answers, ranks, is independent of the batch, resumes, and uses pictures and shots.

    Runs on the embedded sample, without network. One line per check; exit code 4 if one fails.
    """
    from flamingo_eval.cli.option_checks import check_deployment, check_out_file

    check_deployment(device, dtype)  # before what comes next is imported, which takes seconds
    if junit is not None:
        check_out_file(junit, "--junit")

    from dataclasses import asdict

    from flamingo_eval.cli.console import print_json
    from flamingo_eval.cli.report import write_file
    from flamingo_eval.config.settings import load_settings
    from flamingo_eval.errors import ExpectationError, UsageError, counted, did_you_mean
    from flamingo_eval.smoke.checks import Bench, run_checks
    from flamingo_eval.smoke.junit import junit_xml

    for name in skip or ():
        if name not in NAMES:
            hint = did_you_mean(name, NAMES)
            message = f"invalid value for --skip: '{name}'. {hint}".rstrip()
            raise UsageError(message, fix=f"Checks: {', '.join(NAMES)}.")
    model_name = model or load_settings().model
    results = []
    with tempfile.TemporaryDirectory(prefix="flamingo-eval-smoke-") as folder:
        bench = Bench(model_name, Path(folder), device, dtype, model_args, max_memory_gb)
        for result in run_checks(bench, skip or ()):
            results.append(result)
            if not as_json:
                print(f"{result.status:8}{result.name:10}{result.message} ({result.seconds:.1f} s)", flush=True)
    if junit is not None:
        write_file(junit, junit_xml(results, model_name), "--junit")
    if as_json:
        print_json({"model": model_name, "checks": [asdict(r) for r in results]})
    failed = [r.name for r in results if r.status == "failed"]
    if failed:
        raise ExpectationError(f"smoke: {counted(len(failed), 'check')} failed: {', '.join(failed)}")
