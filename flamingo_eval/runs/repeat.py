"""Repeats finished runs from their records; runs that share a model or data load it once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flamingo_eval.backends.choice import ModelChoice, choose_model
from flamingo_eval.config.specs import RunSpec
from flamingo_eval.data.roots import DataRoot
from flamingo_eval.errors import RunError
from flamingo_eval.metrics.own import is_own
from flamingo_eval.prompting.episodes import Supports, chosen_queries, episodes_of, ranked_by_model
from flamingo_eval.prompting.given_demos import METHODS, official_again, recorded
from flamingo_eval.runs.backend import Backend, features_label, features_of, load_backend
from flamingo_eval.runs.folder import RunFolder, read_outputs
from flamingo_eval.runs.preflight import media_of, require_readable
from flamingo_eval.runs.record import read_run
from flamingo_eval.runs.recorded import data_of, recorded_spec
from flamingo_eval.runs.session import Observer, Session
from flamingo_eval.runs.task_data import TaskData, load_data

if TYPE_CHECKING:
    from flamingo_eval.prompting.rices import Encoder


class Repeater:
    """Repeats runs below `out`. `model`, `data` and `device`, if given, replace the records' own."""

    def __init__(
        self,
        out: Path,
        model: str | None = None,
        data: str | None = None,
        images: tuple[str, ...] = (),
        device: str | None = None,
        observer: Observer | None = None,
        model_args: str = "",
        features: ModelChoice | None = None,
    ) -> None:
        """`model_args`: as --model-args takes them; empty: those of the record. `features`: of --features-of."""
        self.model_args, self.features = model_args, features
        self._encoder: Encoder | None = None  # of `features`
        self.out, self.model, self.data, self.images, self.device = out, model, data, images, device
        self.observer = observer or Observer()
        self._backends: dict[tuple[ModelChoice, str, str, str], Backend] = {}
        self._data: tuple[tuple[DataRoot, str, str, str], TaskData] | None = None  # the newest

    def repeat(self, old: RunFolder) -> RunFolder:
        """Repeat a run; returns its new folder. Raises RunError if it cannot be repeated, and the errors of runs."""
        if (answers := read_run(old.run).answers) is not None:
            raise RunError(
                f"{old.path}: the answers come from another program ({answers.file}) and cannot be repeated."
            )
        spec = recorded_spec(old)
        own = [m.name for m in spec.task.metrics if is_own(m.name)]
        if own:
            raise RunError(
                f"{old.path}: scored with {', '.join(own)}, code that a record does not contain.",
                fix="Repeat it with `flamingo-eval run ./TASK.yaml --fresh --out ANOTHER`, then compare with `diff`.",
            )
        data = _with_given(old, spec, self._data_of(spec))
        if spec.on_error != "skip" and not ranked_by_model(spec):
            queries = chosen_queries(data.queries, spec.task.name, spec.limit, spec.ablation)
            support = Supports(spec.task.name, data.support, data.given).of(spec.demos)
            require_readable(media_of(episodes_of(spec, queries, support)))
        record = read_run(old.run)
        settings = dict(record.settings)
        choice = self._choice_of(old, spec, record.model)
        backend = self._backend_of(choice, spec, str(settings.get("batch_size", "auto")))
        model = backend.identity
        repeated_spec = replace(spec, model=model.name, model_sha256=model.sha256, device=model.device)
        if spec.demos.features:
            repeated_spec, backend = self._with_features(old, repeated_spec, backend)
        return Session(backend, self.out, True, settings, self.observer).run(repeated_spec, data).folder

    def close(self) -> None:
        """End the engines' other processes and threads."""
        for backend in self._backends.values():
            backend.close()

    def _data_of(self, spec: RunSpec) -> TaskData:
        root = data_of(spec, self.data, self.images)
        key = (root, repr(spec.task), spec.split, spec.ablation)
        if self._data is None or self._data[0] != key:
            self._data = key, load_data(spec.task, root, spec.split, ablation=spec.ablation)
        return self._data[1]

    def _choice_of(self, old: RunFolder, spec: RunSpec, recorded_model: Mapping[str, Any]) -> ModelChoice:
        """The model to repeat a run with, and its options. Raises RunError if the user must name the model."""
        if recorded_model.get("backend") != "hf":
            return choose_model(self.model or spec.model, self.model_args)
        if self.model is None:
            raise RunError(
                f"{old.path}: the record has the name of the model, {spec.model}, not its folder.",
                fix="Add --model hf:FOLDER; its options come from the record.",
            )
        hf = self.model.startswith("hf:")
        return choose_model(self.model, self.model_args or (dict(recorded_model.get("args", {})) if hf else ""))

    def _with_features(self, old: RunFolder, spec: RunSpec, backend: Backend) -> tuple[RunSpec, Backend]:
        """The run and its backend with the model whose features chose the demonstrations. Raises RunError."""
        if self.features is None:
            raise RunError(
                f"{old.path}: its demonstrations were chosen by the features of {spec.demos.features}.",
                fix="Add --features-of MODEL.",
            )
        encoder = self._encoder = self._encoder or features_of(self.features, spec.device)
        named = replace(spec, demos=replace(spec.demos, features=features_label(self.features)))
        return named, replace(backend, encoder=lambda: encoder)

    def _backend_of(self, choice: ModelChoice, spec: RunSpec, batch_size: str) -> Backend:
        key = (choice, self.device or spec.device, spec.dtype, batch_size)
        if key not in self._backends:
            self._backends[key] = load_backend(*key)
        return self._backends[key]


def _with_given(old: RunFolder, spec: RunSpec, data: TaskData) -> TaskData:
    """The data with its fixed demonstrations: drawn as the benchmark prescribes, or read from the record."""
    if data.support is None or spec.demos.method not in METHODS:
        return data
    if spec.demos.method == "official":
        return replace(data, given=official_again(spec.task, data.queries, data.support, spec.demos.given))
    if spec.ablation.startswith("order-"):
        raise RunError(f"{old.path}: the record has the shots after {spec.ablation}, not those of the file.")
    outputs, _ = read_outputs(old.outputs)
    return replace(data, given=recorded({o.id: o.shots for o in outputs}, data.support))
