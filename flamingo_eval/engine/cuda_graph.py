"""Decoding steps as a CUDA graph: launched at once instead of operator by operator.

Launching a step's many small operators takes longer than the device needs for them unless model and batch are large.
A graph is of one shape and of tensors that stay where they are, so a step must not grow: SlotCache.pin. What making one
takes and what it saves, for small and large models and batches, stands in benchmarks/README.md.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

log = logging.getLogger(__name__)

Step = Callable[..., Tensor]


def record(work: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
    """Record work that ran before; what plays it, and the tensor where its result is found after."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        result = work()
    return graph.replay, result


class Recorded:
    """A function of tensors of the same shapes at every call, recorded at the second and played from then on.

    Its result is overwritten by the next call.
    """

    def __init__(self, work: Step) -> None:
        self._work = work
        self._given: tuple[Tensor | None, ...] | None = None
        self._play: Callable[[], None] | None = None
        self._result: Tensor | None = None

    def __call__(self, *given: Tensor | None) -> Tensor:
        if self._given is None:  # kernels are chosen and workspaces taken at a first call, which no graph may hold
            self._given = tuple(None if tensor is None else tensor.clone() for tensor in given)
            return self._work(*self._given)
        for held, new in zip(self._given, given, strict=True):
            if held is not None and new is not None:
                held.copy_(new)
        if self._play is None:
            self._record()
        if self._play is None or self._result is None:
            return self._work(*self._given)
        self._play()
        return self._result

    def _record(self) -> None:
        held = self._given or ()
        try:
            self._play, self._result = record(partial(self._work, *held))
        except RuntimeError as error:  # of memory too little for a graph, or an operator that cannot be in one
            log.warning("decoding goes on without a CUDA graph: %s", str(error).splitlines()[0])
            self._play = lambda: None
