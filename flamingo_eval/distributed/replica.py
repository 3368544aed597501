"""A replica in its own process: it loads the model once and answers one unit after another."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

from flamingo_eval.backends.choice import ModelChoice
from flamingo_eval.config.specs import ModelIdentity, RunSpec
from flamingo_eval.distributed.pool import Message
from flamingo_eval.records import Episode, Output, Split
from flamingo_eval.runs.answer import Engine, answer, stats_of
from flamingo_eval.runs.backend import load_backend

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

STREAM_EVERY = 0.5  # seconds between two messages to the writer; limits the work lost with a replica


class Replica:
    """A model and its engine in one process."""

    def __init__(
        self, model: str | Path | ModelChoice, device: str = "auto", dtype: str = "auto", batch_size: str = "auto",
        workers: int | None = None, mesh: DeviceMesh | None = None,
    ) -> None:  # fmt: skip
        """`mesh`: the ranks that share the model; this process has a part of it (models/tensor_parallel.py)."""
        self.backend = load_backend(model, device, dtype, batch_size, workers, mesh)

    def identity(self) -> ModelIdentity:
        """Identity of the loaded model."""
        return self.backend.identity

    def answers(self, episodes: Sequence[Episode], spec: RunSpec, split: Split) -> Iterator[Message]:
        """Yield outputs as they are finished, twice a second and at the end."""
        outputs: list[Output] = []
        sent_at = time.monotonic()
        for output in answer(episodes, spec, split, cast(Engine, self.backend.engine)):
            outputs.append(output)
            if time.monotonic() - sent_at >= STREAM_EVERY:
                yield self._message(outputs)
                outputs, sent_at = [], time.monotonic()
        if outputs:
            yield self._message(outputs)

    def _message(self, outputs: list[Output]) -> Message:
        pictures = stats_of(self.backend.engine).get("vision_cache", {})
        hits = pictures.get("hits_memory", 0) + pictures.get("hits_disk", 0)
        return Message(outputs, hits + pictures.get("misses", 0), hits)
