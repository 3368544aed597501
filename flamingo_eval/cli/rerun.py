"""flamingo-eval rerun: repeat runs from their records and show what differs."""

from __future__ import annotations

import tempfile
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flamingo_eval.cli.options import Images, Json

if TYPE_CHECKING:
    from flamingo_eval.report.diff import Comparison


def rerun(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="Folders of finished runs, or folders above them.")
    ],
    model: Annotated[
        str | None,
        typer.Option(help="Checkpoint folder or hf:FOLDER, if the record's model is not the bundled one."),
    ] = None,
    model_args: Annotated[
        str, typer.Option(metavar="K=V,...", help="Options of an hf: model, instead of the record's.")
    ] = "",
    features_of: Annotated[
        str | None, typer.Option(metavar="MODEL", help="As in `run`, if the run's demonstrations were chosen with it.")
    ] = None,
    data: Annotated[
        str | None, typer.Option("--data", metavar="DIR", help="The data folder, if the run was not on the sample.")
    ] = None,
    images: Images = None,
    device: Annotated[str | None, typer.Option(help="Device; default: the record's.")] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Keep the new runs in this folder; default: delete them.")
    ] = None,
    limit: Annotated[int, typer.Option(min=0, help="Show at most this many changed answers.")] = 20,
    as_json: Json = False,
) -> None:
    """Repeat each RUN from its record and show what differs: version, machine, weights, data, answers, scores.

    Exit code 0 if weights, data, answers and scores are equal, 1 otherwise. A different version or machine is shown,
    but does not count as a difference. Of several runs, only those that differ are shown in full.
    """
    from flamingo_eval.backends.choice import choose_model
    from flamingo_eval.cli.console import print_json, say
    from flamingo_eval.cli.diff import print_comparison
    from flamingo_eval.cli.option_checks import Checks, check_deployment, check_out_folder
    from flamingo_eval.cli.progress import Repeating
    from flamingo_eval.config.settings import image_folders
    from flamingo_eval.report.diff import as_json as json_of
    from flamingo_eval.report.diff import compare
    from flamingo_eval.runs.folder import find_runs
    from flamingo_eval.runs.repeat import Repeater

    checks = Checks()
    checks.attempt(lambda: check_deployment(device or "auto", "auto"))
    if out is not None:
        place = out
        checks.attempt(lambda: check_out_folder(place))
    folders = checks.attempt(lambda: find_runs(runs)) or []
    checks.require()
    comparisons: list[Comparison] = []
    with tempfile.TemporaryDirectory(prefix="flamingo-eval-rerun-") as temporary:
        features = choose_model(features_of) if features_of else None
        repeater = Repeater(
            out or Path(temporary), model, data, image_folders(images), device, Repeating(as_json), model_args, features
        )
        with closing(repeater):
            for i, folder in enumerate(folders, start=1):
                comparison = compare(folder, repeater.repeat(folder))
                comparisons.append(comparison)
                if as_json:
                    continue
                if len(folders) == 1 or not comparison.same_results:
                    print_comparison(comparison, limit)
                verdict = "the same" if comparison.same_results else "not the same (A: the record, B: now)"
                say(verdict if len(folders) == 1 else f"{i}/{len(folders)} {folder.path}: {verdict}")
    n_equal = sum(c.same_results for c in comparisons)
    if as_json:
        print_json(json_of(comparisons[0]) if len(comparisons) == 1 else {"runs": [json_of(c) for c in comparisons]})
    elif len(comparisons) > 1:
        say(f"{len(comparisons)} runs repeated: {n_equal} the same, {len(comparisons) - n_equal} not")
    raise typer.Exit(0 if n_equal == len(comparisons) else 1)
