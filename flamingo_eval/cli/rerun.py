"""flamingo-eval rerun: repeat runs from their records and say what differs."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flamingo_eval.cli.options import Images, Json

if TYPE_CHECKING:
    from flamingo_eval.api import Model
    from flamingo_eval.config.specs import RunSpec
    from flamingo_eval.data.roots import DataRoot
    from flamingo_eval.engine import Engine, PlainEngine
    from flamingo_eval.report.diff import Comparison
    from flamingo_eval.runs.folder import RunFolder
    from flamingo_eval.runs.runner import TaskData


def rerun(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="Folders of finished runs, or folders above them.")
    ],
    model: Annotated[
        str | None, typer.Option(help="Checkpoint folder, where the record's model is not the bundled one.")
    ] = None,
    data: Annotated[
        str | None, typer.Option("--data", metavar="DIR", help="The data root, where the run was not on the sample.")
    ] = None,
    images: Images = None,
    device: Annotated[str | None, typer.Option(help="Another device than the record's.")] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Keep the new runs there; default: thrown away.")
    ] = None,
    limit: Annotated[int, typer.Option(min=0, help="Show at most so many changed answers.")] = 20,
    as_json: Json = False,
) -> None:
    """Repeat each RUN from its record and say what differs: version, machine, weights, data, answers, scores.

    Exit code 0 if weights, data, answers and scores are the same, 1 otherwise. Another version or machine is said but
    is no difference of its own. Of several runs only those that differ are shown whole.
    """
    from flamingo_eval.cli.console import print_json, say
    from flamingo_eval.cli.diff import print_comparison
    from flamingo_eval.config.settings import image_folders
    from flamingo_eval.report.diff import as_json as json_of
    from flamingo_eval.report.diff import compare
    from flamingo_eval.runs.folder import find_runs

    folders = find_runs(runs)
    found: list[Comparison] = []
    with tempfile.TemporaryDirectory(prefix="flamingo-eval-rerun-") as temporary:
        again = _Again(model, data, image_folders(images), device, out or Path(temporary), as_json)
        for i, old in enumerate(folders, start=1):
            comparison = compare(old, again.repeat(old))
            found.append(comparison)
            if as_json:
                continue
            if len(folders) == 1 or not comparison.same_results:
                print_comparison(comparison, limit)
            verdict = "the same" if comparison.same_results else "not the same (A: the record, B: now)"
            say(verdict if len(folders) == 1 else f"{i}/{len(folders)} {old.path}: {verdict}")
    same = sum(c.same_results for c in found)
    if as_json:
        print_json(json_of(found[0]) if len(found) == 1 else {"runs": [json_of(c) for c in found]})
    elif len(found) > 1:
        say(f"{len(found)} runs repeated: {same} the same, {len(found) - same} not")
    raise typer.Exit(0 if same == len(found) else 1)


class _Again:
    """Repeats runs; model and data are loaded once for all that share them."""

    def __init__(
        self,
        model: str | None,
        data: str | None,
        images: tuple[str, ...],
        device: str | None,
        out: Path,
        quiet: bool,
    ) -> None:
        self.model, self.data, self.images = model, data, images
        self.device, self.out, self.quiet = device, out, quiet
        self._engines: dict[tuple[str, str, str, str], tuple[Model, Engine | PlainEngine]] = {}
        self._data: tuple[tuple[DataRoot, str, str], TaskData] | None = (
            None  # of the newest task: runs come task by task
        )

    def repeat(self, old: RunFolder) -> RunFolder:
        """The folder of the new run."""
        from dataclasses import replace

        from flamingo_eval.cli.console import ProgressBar
        from flamingo_eval.errors import RunError
        from flamingo_eval.prompting.given_demos import official_again, recorded
        from flamingo_eval.report.diff import outputs_by_id
        from flamingo_eval.runs.folder import read_json
        from flamingo_eval.runs.media_check import require_readable
        from flamingo_eval.runs.recorded import recorded_spec
        from flamingo_eval.runs.runner import Progress, episodes_of
        from flamingo_eval.runs.runner import run as run_one

        spec = recorded_spec(old)
        data = self._data_of(spec)
        if spec.demos.method == "official" and data.support is not None:
            data = replace(data, given=official_again(spec.task, data.queries, data.support, spec.demos.given))
        if spec.demos.method == "file" and data.support is not None:
            if spec.ablation.startswith("order-"):
                raise RunError(f"{old.path}: the record has the shots after {spec.ablation}, not those of the file.")
            shots = {id: output.shots for id, output in outputs_by_id(old).items()}
            data = replace(data, given=recorded(shots, data.support))
        by_model = spec.demos.method.startswith("rices") and bool(spec.demos.shots or spec.text_only_shots)
        episodes = None if by_model else episodes_of(spec, data)
        require_readable(episodes or (), spec.on_error)
        settings = dict(read_json(old.run).get("settings", {}))
        loaded, engine = self._engine_of(spec, str(settings.get("batch_size", "auto")))
        now = replace(spec, model=loaded.name, model_sha256=loaded.sha256, device=loaded.device.type)
        ranking = None
        if by_model:
            from flamingo_eval.engine.embedding import ModelEncoder
            from flamingo_eval.prompting.rices import ranking_of

            ranking = ranking_of(now, data, ModelEncoder(loaded))
        total = len(episodes) if episodes is not None else len(data.queries.examples)
        with ProgressBar(f"{spec.task_label} again", total, self.quiet) as bar:

            def watch(progress: Progress) -> None:
                bar.update(len(progress.outputs))

            return run_one(
                now, data, engine, self.out,
                episodes=episodes, ranking=ranking, watch=watch, fresh=True, settings=settings,
            ).folder  # fmt: skip

    def _data_of(self, spec: RunSpec) -> TaskData:
        from flamingo_eval.runs.recorded import data_of
        from flamingo_eval.runs.runner import load_data

        root = data_of(spec, self.data, self.images)
        key = (root, repr(spec.task), spec.split)
        if self._data is None or self._data[0] != key:
            self._data = key, load_data(spec.task, root, spec.split)
        return self._data[1]

    def _engine_of(self, spec: RunSpec, batch_size: str) -> tuple[Model, Engine | PlainEngine]:
        from flamingo_eval.api import load_flamingo_model
        from flamingo_eval.cli.console import status
        from flamingo_eval.engine import build_engine

        key = (self.model or spec.model, self.device or spec.device, spec.dtype, batch_size)
        if key not in self._engines:
            with status("loading the model", self.quiet):
                loaded = load_flamingo_model(key[0], device=key[1], dtype=key[2])
                self._engines[key] = loaded, build_engine(loaded, batch_size=batch_size)
        return self._engines[key]
