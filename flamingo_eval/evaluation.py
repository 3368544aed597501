"""`flamingo_eval.evaluate`: a model on tasks at several shots and seeds, from Python."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias, cast

from flamingo_eval.backends.choice import ArgValue, ModelChoice, choose_model
from flamingo_eval.backends.own import ListModel, OwnEngine
from flamingo_eval.backends.shape import Shape, default_protocol, shape_of
from flamingo_eval.config.settings import data_choice, image_folders, load_settings
from flamingo_eval.config.specs import DemoMethod, ModelIdentity, OnError, Wanted
from flamingo_eval.errors import UsageError
from flamingo_eval.runs.answer import Engine
from flamingo_eval.runs.backend import Backend, backend_of, features_label, hf_backend_of, identity_of, load_backend
from flamingo_eval.runs.backend import features_of as encoder_of
from flamingo_eval.runs.plan import Choices, PlannedRun, plan_runs
from flamingo_eval.runs.preflight import require_supported
from flamingo_eval.runs.questions import load_questions
from flamingo_eval.runs.runner import FinishedRun
from flamingo_eval.runs.session import Observer, run_all

if TYPE_CHECKING:
    import pandas as pd

    from flamingo_eval.api import Model
    from flamingo_eval.backends.hf.model import HFModel

AnyModel: TypeAlias = "str | Path | ModelChoice | Model | HFModel | Engine | ListModel"
UNKNOWN = "unknown"  # in the record, for a model without this attribute


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The finished runs of one call, in the order of tasks, shots and seeds."""

    runs: tuple[FinishedRun, ...]

    @property
    def frame(self) -> pd.DataFrame:
        """One row per score, as in load_results."""
        return self._frame("score")

    @property
    def queries(self) -> pd.DataFrame:
        """One row per query, as in load_results."""
        return self._frame("query")

    def _frame(self, per: Literal["score", "query"]) -> pd.DataFrame:
        from flamingo_eval.report.frame import load_results

        return load_results([run.folder.path for run in self.runs], per)


def evaluate(
    model: AnyModel,
    tasks: str | Sequence[str],
    *,
    shots: int | Sequence[int] | Literal["all"] = (0, 4),
    seeds: int | Sequence[int] = (0,),
    data: str | os.PathLike[str] | None = None,
    out: str | os.PathLike[str] | None = None,
    limit: int | None = None,
    protocol: str | None = None,
    split: str | None = None,
    demos: DemoMethod = "random",
    support_size: int | None = None,
    permutations: int | None = None,
    rank: Wanted | None = None,
    ablation: str = "",
    on_error: OnError = "stop",
    features_of: str | Path | ModelChoice | None = None,
    model_args: str | Mapping[str, ArgValue] = "",
    device: str = "auto",
    dtype: str = "auto",
    batch_size: int | str = "auto",
    workers: int | None = None,
    fresh: bool | None = None,
    observer: Observer | None = None,
) -> Evaluation:
    """Evaluate a model on tasks and return the runs; the options mean what those of `flamingo-eval run` mean.

    `model` is a name or folder as --model takes it, a loaded model, or any object with `generate` and `score`: methods
    that get lists and return lists (docs/models.md), or generators as in runs.answer.Engine. Such an object is asked in
    its `default_protocol`, or in `chat` if methods return lists and `flamingo` if they are generators; the record
    takes its `name` (else the name of its class), `sha256`, `device` and `dtype` if it has them. `features_of`: the
    model whose features RICES compares, in the place of the model's own. `fresh` None: finished and interrupted runs of
    a model are taken up again where its sha256 is known.
    Raises UsageError, ConfigError, DataError, MediaError, PromptError, CheckpointError, RunError.
    """
    source = _source(model, model_args, device, dtype, str(batch_size), workers)
    other = choose_model(features_of) if features_of is not None else None
    settings = load_settings()
    choices = Choices(
        shots=(None,) if shots == "all" else _numbers(shots),
        seeds=_numbers(seeds),
        demos=demos,
        support_size=support_size,
        permutations=permutations,
        rank=rank,
        limit=limit,
        ablation=ablation,
        data=data_choice(None if data is None else os.fspath(data)),
        images=image_folders(None),
        split=split,
        on_error=on_error,
        features=features_label(other) if other is not None else "",
    )
    names = (tasks,) if isinstance(tasks, str) else tuple(tasks)
    named = protocol or settings.protocol
    questions, _ = load_questions(names, named or source.protocol(), rank, usual=not named)

    @contextmanager
    def opened(_: Sequence[PlannedRun]) -> Iterator[Backend]:
        backend = source.open()
        try:
            yield backend
        finally:
            if source.owned:
                backend.close()

    runs = plan_runs(questions, choices)
    if source.choice is not None:
        require_supported(source.choice, runs)
    records = run_all(
        runs,
        opened,
        Path(out or settings.out),
        identity=source.identity,
        shape=source.shape,
        fresh=source.identity.sha256 == UNKNOWN if fresh is None else fresh,
        settings={"batch_size": str(batch_size)},
        observer=observer,
        features=(lambda: encoder_of(other, device)) if other is not None else None,
    )
    return Evaluation(tuple(records or ()))


@dataclass(frozen=True, slots=True)
class _Source:
    """A model before it is opened. `owned`: whether evaluate opened it and closes it."""

    identity: ModelIdentity
    open: Callable[[], Backend]
    protocol: Callable[[], str]
    shape: Callable[[], Shape] | None = None
    owned: bool = True
    choice: ModelChoice | None = None  # where it is named


def _source(
    model: AnyModel,
    model_args: str | Mapping[str, ArgValue],
    device: str,
    dtype: str,
    batch_size: str,
    workers: int | None,
) -> _Source:
    if isinstance(model, (str, Path, ModelChoice)):
        choice = choose_model(model, model_args)
        return _Source(
            identity_of(choice, device, dtype),
            lambda: load_backend(choice, device, dtype, batch_size, workers),
            lambda: default_protocol(choice)[0],
            lambda: shape_of(choice),
            choice=choice,
        )
    if model_args:
        raise UsageError("model_args are for a model given by name; this one is already loaded.")
    return _loaded(model, batch_size, workers) or _own(model, batch_size)


def _loaded(model: object, batch_size: str, workers: int | None) -> _Source | None:
    """A model of load_model; None for another object."""
    import sys

    module = sys.modules.get(
        "flamingo_eval.models.loaded"
    )  # a model of this class exists only if its module is imported
    if module is not None and isinstance(model, module.LoadedModel):
        backend = backend_of(model, batch_size, workers)
        return _Source(backend.identity, lambda: backend, lambda: "flamingo")
    transformers = sys.modules.get("flamingo_eval.backends.hf.model")
    if transformers is not None and isinstance(model, transformers.HFModel):
        backend = hf_backend_of(model)
        return _Source(backend.identity, lambda: backend, lambda: model.shape.default_protocol, owned=False)
    return None


def _own(model: object, batch_size: str) -> _Source:
    """Any object with the two methods, which return lists or yield pairs."""
    missing = [name for name in ("generate", "score") if not callable(getattr(model, name, None))]
    if missing:
        raise UsageError(
            f"a {type(model).__name__} is not a model: {' and '.join(missing)} missing.",
            fix="Give a name, a folder, a loaded model, or an object with generate and score: see docs/python.md.",
        )
    from flamingo_eval.engine import rows_of

    streams = inspect.isgeneratorfunction(cast(Engine, model).generate)
    engine = cast(Engine, model) if streams else OwnEngine(model, rows_of(batch_size))
    identity = ModelIdentity(
        str(getattr(model, "name", None) or type(model).__name__),
        str(getattr(model, "sha256", UNKNOWN)),
        str(getattr(model, "device", UNKNOWN)).partition(":")[0],
        str(getattr(model, "dtype", UNKNOWN)).removeprefix("torch."),
    )
    backend = Backend(identity, engine)
    protocol = str(getattr(model, "default_protocol", "flamingo" if streams else "chat"))
    return _Source(identity, lambda: backend, lambda: protocol, owned=False)


def _numbers(value: int | Sequence[int]) -> tuple[int, ...]:
    numbers = (value,) if isinstance(value, int) else tuple(dict.fromkeys(value))
    if not numbers or not all(type(n) is int and n >= 0 for n in numbers):
        raise UsageError(f"shots and seeds: expected one or more integers of at least 0, got {value!r}.")
    return numbers
