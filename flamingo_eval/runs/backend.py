"""A model by name -> what a session needs: its identity, an engine, and features for RICES.

Names become engines only here. `identity_of` gives the same identity without loading weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flamingo_eval.backends.choice import ModelChoice, choose_model
from flamingo_eval.config.specs import ModelIdentity
from flamingo_eval.errors import UsageError
from flamingo_eval.records import Image
from flamingo_eval.runs.answer import Engine, OutputSource

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

    from flamingo_eval.backends.hf.model import HFModel
    from flamingo_eval.models.loaded import LoadedModel
    from flamingo_eval.prompting.rices import Encoder


@dataclass(frozen=True, slots=True)
class Backend:
    """A model that answers. `encoder` gives the features for RICES; None: it has none to give.

    `check` raises MediaError for a picture that cannot be shown, and keeps what it opened for the answers.
    """

    identity: ModelIdentity
    engine: Engine | OutputSource
    encoder: Callable[[], Encoder] | None = None
    record: Mapping[str, Any] = field(default_factory=dict)  # further entries about the model in a run's record
    check: Callable[[Image], None] | None = None
    require: Callable[[Sequence[str]], None] | None = None  # raises UsageError for tasks it cannot rank candidates of

    def close(self) -> None:
        """End the engine's other processes and threads, if any."""
        close = getattr(self.engine, "close", None)
        if close is not None:
            close()


def identity_of(model: str | Path | ModelChoice, device: str = "auto", dtype: str = "auto") -> ModelIdentity:
    """Identity of a model for the record, without loading weights. Raises CheckpointError, UsageError."""
    from flamingo_eval.models.identity import model_identity, resolved_device

    choice = choose_model(model)
    if choice.scheme == "hf":
        from flamingo_eval.backends.hf.shape import hf_shape

        shape = hf_shape(choice)
        return ModelIdentity(shape.name, shape.sha256, *resolved_device(device, dtype))
    if choice.scheme in ("openai", "own"):
        from flamingo_eval.backends.shape import shape_of

        model_shape = shape_of(choice)
        device_and_dtype = ("server", "unknown") if choice.scheme == "openai" else resolved_device(device, dtype)
        return ModelIdentity(model_shape.name, model_shape.sha256, *device_and_dtype)  # type: ignore[attr-defined]
    return model_identity(choice.target, device, dtype)


def load_backend(
    model: str | Path | ModelChoice,
    device: str = "auto",
    dtype: str = "auto",
    batch_size: str = "auto",
    workers: int | None = None,
    mesh: DeviceMesh | None = None,
) -> Backend:
    """Load a model of any backend. `mesh`: the ranks that share it. Raises CheckpointError, UsageError."""
    choice = choose_model(model)
    if choice.scheme == "hf":
        return _hf_backend(choice, device, dtype, batch_size, mesh)
    if choice.scheme in ("openai", "own"):
        if mesh is not None:
            raise UsageError(f"--tensor-parallel: {choice} cannot be shared by ranks.", fix="Leave it out.")
        identity = identity_of(choice, device, dtype)
        if choice.scheme == "own":
            return _own_backend(choice, identity, batch_size)
        from flamingo_eval.backends.server.model import open_server, require_ranking

        server, answering = open_server(choice)
        return Backend(
            identity, answering, record=server.record, require=lambda tasks: require_ranking(answering, tasks)
        )
    from flamingo_eval.models import model_folder
    from flamingo_eval.models.loaded import LoadedModel

    return backend_of(LoadedModel.load(model_folder(choice.target), device, dtype, mesh), batch_size, workers)


def features_label(model: ModelChoice) -> str:
    """What a run's spec says of the model whose features choose its demonstrations: name, beginning of the hash.

    Raises CheckpointError, UsageError.
    """
    if model.scheme in ("openai", "own"):
        raise UsageError(
            f"--features-of {model}: this model gives no features.", fix="Name tiny, a checkpoint folder, or hf:FOLDER."
        )
    identity = identity_of(model)
    return f"{identity.name} {identity.sha256[:12]}"


def features_of(model: ModelChoice, device: str = "auto", dtype: str = "auto") -> Encoder:
    """The encoder of a model that is loaded for its features alone. Raises CheckpointError, UsageError."""
    encoder = load_backend(model, device, dtype, workers=0).encoder
    if encoder is None:
        raise UsageError(f"--features-of {model}: this model gives no features.")
    return encoder()


def _own_backend(choice: ModelChoice, identity: ModelIdentity, batch_size: str) -> Backend:
    from flamingo_eval.backends.own import OwnEngine, own_shape
    from flamingo_eval.engine import rows_of

    shape = own_shape(choice)
    return Backend(identity, OwnEngine(shape.model, rows_of(batch_size)), None, shape.record)


def _hf_backend(choice: ModelChoice, device: str, dtype: str, batch_size: str, mesh: DeviceMesh | None) -> Backend:
    from flamingo_eval.backends.hf.model import HFModel
    from flamingo_eval.engine import rows_of

    if mesh is not None:
        raise UsageError(
            f"--tensor-parallel: {choice} cannot be shared by ranks.",
            fix="Distribute it over this machine's GPUs with --model-args device_map=auto.",
        )
    return hf_backend_of(HFModel(choice, device, dtype, rows_of(batch_size), keep=True))


def hf_backend_of(model: HFModel) -> Backend:
    """The backend of a transformers model that is already loaded."""
    from flamingo_eval.backends.hf.embedding import HFEncoder

    kind = str(model.dtype).removeprefix("torch.")
    identity = ModelIdentity(model.name, model.sha256, model.device.type, kind)
    return Backend(identity, model.engine, lambda: HFEncoder(model), model.record)


def backend_of(model: LoadedModel, batch_size: str = "auto", workers: int | None = None) -> Backend:
    """The backend of a model that is already loaded. Raises UsageError."""
    from flamingo_eval.engine import Engine as LocalEngine
    from flamingo_eval.engine import build_engine
    from flamingo_eval.engine.embedding import ModelEncoder

    dtype = str(model.dtype).removeprefix("torch.")
    identity = ModelIdentity(model.name, model.sha256, model.device.type, dtype)
    engine = build_engine(model, batch_size, workers)
    pictures = engine.pictures if isinstance(engine, LocalEngine) else None
    check = pictures.check if pictures is not None else None
    return Backend(identity, engine, lambda: ModelEncoder(model, pictures), check=check)
