"""What a replica does in its own process: load the model once, answer unit after unit."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from flamingo_eval.api import load_flamingo_model
from flamingo_eval.config.specs import RunSpec
from flamingo_eval.distributed.pool import Identity, Sent
from flamingo_eval.engine import build_engine
from flamingo_eval.engine.embedding import ModelEncoder
from flamingo_eval.records import Episode, Output, Split
from flamingo_eval.runs.answer import answer

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

STREAM_EVERY = 0.5  # seconds between two messages to the writer: what a lost replica can cost beside its batch


class Worker:
    """A model and its engine. Made anew by whoever runs it when its process died."""

    def __init__(
        self, model: str | Path, device: str = "auto", dtype: str = "auto", batch_size: str = "auto",
        workers: int | None = None, mesh: DeviceMesh | None = None,
    ) -> None:  # fmt: skip
        """`mesh`: the ranks that share the model, of which this process holds a part (models/tensor_parallel.py)."""
        self.model = load_flamingo_model(model, device=device, dtype=dtype, mesh=mesh)
        self.engine = build_engine(self.model, batch_size=batch_size, workers=workers)

    def identity(self) -> Identity:
        """What it loaded."""
        dtype = str(self.model.dtype).removeprefix("torch.")
        return Identity(self.model.name, self.model.sha256, self.model.device.type, dtype)

    def encoder(self) -> ModelEncoder:
        """Features for RICES."""
        return ModelEncoder(self.model)

    def answers(self, episodes: Sequence[Episode], spec: RunSpec, split: Split) -> Iterator[Sent]:
        """Outputs as they are finished, twice a second and at the end."""
        some: list[Output] = []
        sent = time.monotonic()
        for output in answer(episodes, spec, split, self.engine):
            some.append(output)
            if time.monotonic() - sent >= STREAM_EVERY:
                yield self._message(some)
                some, sent = [], time.monotonic()
        if some:
            yield self._message(some)

    def _message(self, outputs: list[Output]) -> Sent:
        cache = self.engine.cache
        hits = cache.hits_memory + cache.hits_disk
        return Sent(outputs, hits + cache.misses, hits)
