"""The command line: one file per command; each parses, calls and prints. Heavy imports are inside the commands."""

from __future__ import annotations

import sys
import tempfile
import traceback
from pathlib import Path
from typing import Annotated

import typer

from flamingo_eval import __version__
from flamingo_eval.cli import (
    build,
    cache,
    check,
    convert,
    diff,
    doctor,
    export,
    list_,
    report,
    rerun,
    run,
    sample,
    score,
    show,
    smoke,
    train,
)
from flamingo_eval.errors import FlamingoEvalError

app = typer.Typer(
    name="flamingo-eval",
    help="Few-shot evaluation of Flamingo-style visual language models.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help: twice as fast as the formatted one, and it wraps in any terminal
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("run")(run.run)
app.command("report")(report.report)
app.command("diff")(diff.diff)
app.command("smoke")(smoke.smoke)
app.command("rerun")(rerun.rerun)
app.command("score")(score.score)
app.command("export")(export.export)
app.command("show")(show.show)
app.command("check")(check.check)
app.command("sample")(sample.sample)
app.command("list")(list_.list_)
app.command("cache")(cache.cache)
app.add_typer(convert.app, name="convert")
app.command("build")(build.build)
app.command("train")(train.train)
app.command("doctor")(doctor.doctor)


def _version(requested: bool) -> None:
    if requested:
        typer.echo(f"flamingo-eval {__version__}")
        raise typer.Exit()


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line.

    Exit codes: 0 done, 1 the user can fix it, 2 usage, 3 a bug, 4 a check or bound is not met, 130 interrupted.
    """
    try:
        app()
    except FlamingoEvalError as error:
        typer.echo(f"flamingo-eval: {error}", err=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:  # the only place that catches bugs: a file gets the traceback, for the report
        typer.echo(f"flamingo-eval: this is a bug: {type(error).__name__}: {error}", err=True)
        typer.echo(f"The traceback is in {_log_bug()}; please report it with that file.", err=True)
        sys.exit(3)


def _log_bug() -> Path:
    import platform

    with tempfile.NamedTemporaryFile(
        "w", prefix="flamingo-eval-bug-", suffix=".log", delete=False, encoding="utf-8"
    ) as log:
        log.write(f"flamingo-eval {__version__}, Python {platform.python_version()}, {platform.platform()}\n")
        log.write(f"arguments: {sys.argv[1:]}\n\n{traceback.format_exc()}")
    return Path(log.name)
