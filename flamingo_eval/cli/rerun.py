"""flamingo-eval rerun: repeat a run from its record and say what differs."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flamingo_eval.cli.options import Json

if TYPE_CHECKING:
    from flamingo_eval.results import RunFolder
    from flamingo_eval.specs import RunSpec


def rerun(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a finished run.")],
    model: Annotated[
        str | None, typer.Option(help="Checkpoint folder, where the record's model is not the bundled one.")
    ] = None,
    data: Annotated[
        str | None, typer.Option("--data", metavar="DIR", help="The data root, where the run was not on the sample.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="Another device than the record's.")] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Keep the new run there; default: thrown away.")
    ] = None,
    limit: Annotated[int, typer.Option(min=0, help="Show at most so many changed answers.")] = 20,
    as_json: Json = False,
) -> None:
    """Repeat RUN from its record and say what differs: version, machine, weights, data, answers, scores.

    Exit code 0 if weights, data, answers and scores are the same, 1 otherwise. Another version or machine is said but
    is no difference of its own.
    """
    from flamingo_eval.cli.console import print_json, say
    from flamingo_eval.cli.diff import print_comparison
    from flamingo_eval.compare import as_json as json_of
    from flamingo_eval.compare import compare, one_run
    from flamingo_eval.rerun import recorded_spec

    old = one_run(run)
    spec = recorded_spec(old)
    with tempfile.TemporaryDirectory(prefix="flamingo-eval-rerun-") as temporary:
        new = _repeat(spec, old, model, data, device, out or Path(temporary), as_json)
        comparison = compare(old, new)
        if as_json:
            print_json(json_of(comparison))
        else:
            print_comparison(comparison, limit)
            say("the same" if comparison.same_results else "not the same (A: the record, B: now)")
    raise typer.Exit(0 if comparison.same_results else 1)


def _repeat(
    spec: RunSpec, old: RunFolder, model: str | None, data: str | None, device: str | None, out: Path, quiet: bool
) -> RunFolder:
    from dataclasses import replace

    from flamingo_eval.cli.console import ProgressBar, status
    from flamingo_eval.media_check import require_readable
    from flamingo_eval.rerun import data_of
    from flamingo_eval.results import read_json
    from flamingo_eval.runner import Progress, episodes_of, load_data
    from flamingo_eval.runner import run as run_one

    loaded_data = load_data(spec.task, data_of(spec, data), spec.split)
    by_model = spec.demos.method.startswith("rices") and bool(spec.demos.shots or spec.text_only_shots)
    episodes = None if by_model else episodes_of(spec, loaded_data)
    require_readable(episodes or (), spec.on_error)
    with status("loading the model", quiet):
        from flamingo_eval.engine import build_engine
        from flamingo_eval.models import load_model

        loaded = load_model(model or spec.model, device=device or spec.device, dtype=spec.dtype)
        settings = dict(read_json(old.run).get("settings", {}))
        engine = build_engine(loaded, batch_size=settings.get("batch_size", "auto"))
    now = replace(spec, model=loaded.name, model_sha256=loaded.sha256, device=loaded.device.type)
    ranking = None
    if by_model:
        from flamingo_eval.features import ranking_of
        from flamingo_eval.models.embedding import ModelEncoder

        ranking = ranking_of(now, loaded_data, ModelEncoder(loaded))
    total = len(episodes) if episodes is not None else len(loaded_data.queries.examples)
    with ProgressBar(f"{spec.task_label} again", total, quiet) as bar:

        def watch(progress: Progress) -> None:
            bar.update(len(progress.outputs))

        return run_one(
            now,
            loaded_data,
            engine,
            out,
            episodes=episodes,
            ranking=ranking,
            watch=watch,
            fresh=True,
            settings=settings,
        ).folder
