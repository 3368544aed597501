"""flamingo-eval sample: a new copy of a task from a seed, in the official layout."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flamingo_eval.cli.options import Json, complete_task, one_of

SIZES = ("small", "official")


def sample(
    tasks: Annotated[
        list[str],
        typer.Argument(metavar="TASK...", help="Task names or groups, e.g. vl_icl.", autocompletion=complete_task),
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the files; use it with --data DIR.")],
    seed: Annotated[int, typer.Option(min=0, help="Another seed is another copy.")] = 0,
    size: Annotated[
        str,
        typer.Option(help="small, or official: as many rows as the benchmark.", autocompletion=one_of(*SIZES)),
    ] = "small",
    dial: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="Set a dial of the task; repeatable.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Make a fresh copy of TASK... that no model has seen, including pictures.

    The same seed gives the same rows and pixels on every machine. `run TASK@sample:SEED` makes the copy automatically.
    """
    from flamingo_eval.cli.console import print_json, say
    from flamingo_eval.config.groups import expanded
    from flamingo_eval.config.names import find_task
    from flamingo_eval.data.task_file import load_task
    from flamingo_eval.errors import DataError
    from flamingo_eval.sample.fresh.copies import copy_of, recorded_copy

    words = ",".join([str(seed), f"size={size}", *(dial or ())])
    copies = [copy_of(load_task(find_task(name)).name, words) for name in expanded(tasks)]
    for copy in copies:
        if recorded_copy(out, copy.task):
            raise DataError(f"--out {out}: a copy of {copy.task} already exists.", fix="Use another folder.")
    for copy in copies:
        try:
            copy.write(out)
        except OSError as error:
            raise DataError(f"--out {out}: cannot be written: {error.strerror}.") from error
        if not as_json:
            dials = ", ".join(f"{name} {value}" for name, value in copy.dials_by_name.items())
            say(f"{copy.task}: seed {copy.seed}, {dials or 'no dials'} -> {out}")
    if as_json:
        print_json({"out": str(out), "copies": [c.as_json() for c in copies]})
