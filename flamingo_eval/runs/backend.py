"""A model by name -> what a session needs of it: its identity, an engine, and features for RICES.

The one place where a name becomes an engine. `identity_of` says the same identity without loading any weights.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from flamingo_eval.config.specs import ModelIdentity
from flamingo_eval.runs.answer import Engine, OutputSource

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

    from flamingo_eval.models.config import FlamingoConfig
    from flamingo_eval.models.loaded import LoadedModel
    from flamingo_eval.models.tokenizer import Tokenizer
    from flamingo_eval.prompting.rices import Encoder


@dataclass(frozen=True, slots=True)
class Backend:
    """A model that answers. `encoder` gives the features for RICES; None: it has none to give."""

    identity: ModelIdentity
    engine: Engine | OutputSource
    encoder: Callable[[], Encoder] | None = None

    def close(self) -> None:
        """End what the engine runs beside this process, if anything."""
        close = getattr(self.engine, "close", None)
        if close is not None:
            close()


def identity_of(model: str | Path, device: str = "auto", dtype: str = "auto") -> ModelIdentity:
    """What the record will say of a model; its weights are not loaded. Raises CheckpointError, UsageError."""
    from flamingo_eval.models.identity import model_identity

    return model_identity(model, device, dtype)


def shape_of(model: str | Path) -> tuple[FlamingoConfig, Tokenizer]:
    """What the lengths of prompts are checked with; the weights are not loaded. Raises CheckpointError."""
    from flamingo_eval.models import read_shape

    return read_shape(model)


def load_backend(
    model: str | Path,
    device: str = "auto",
    dtype: str = "auto",
    batch_size: str = "auto",
    workers: int | None = None,
    mesh: DeviceMesh | None = None,
) -> Backend:
    """Load a model by name or folder. `mesh`: the ranks that share it. Raises CheckpointError, UsageError."""
    from flamingo_eval.models import model_folder
    from flamingo_eval.models.loaded import LoadedModel

    return backend_of(LoadedModel.load(model_folder(model), device, dtype, mesh), batch_size, workers)


def backend_of(model: LoadedModel, batch_size: str = "auto", workers: int | None = None) -> Backend:
    """The backend of a model that is loaded already. Raises UsageError."""
    from flamingo_eval.engine import build_engine
    from flamingo_eval.engine.embedding import ModelEncoder

    dtype = str(model.dtype).removeprefix("torch.")
    identity = ModelIdentity(model.name, model.sha256, model.device.type, dtype)
    return Backend(identity, build_engine(model, batch_size, workers), lambda: ModelEncoder(model))
