"""Decoding steps as a CUDA graph: launched at once instead of operator by operator.

Launching a step's many small operators takes longer than the device needs for them unless model and batch are large.
A graph has one shape and fixed tensor addresses, so a step must not grow: SlotCache.pin. benchmarks/README.md lists
what a capture costs and saves for small and large models and batches.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

log = logging.getLogger(__name__)

Step = Callable[..., Tensor]


def capture(step: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
    """Capture a step that has run once. -> a function that replays it, and the tensor that holds its result"""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        result = step()
    return graph.replay, result


class CapturedGraph:
    """A function of tensors of the same shapes at every call, captured at the second call and replayed from then on.

    Its result is overwritten by the next call.
    """

    def __init__(self, step: Step) -> None:
        self._work = step
        self._inputs: tuple[Tensor | None, ...] | None = None
        self._replay: Callable[[], None] | None = None
        self._result: Tensor | None = None

    def __call__(self, *tensors: Tensor | None) -> Tensor:
        if (
            self._inputs is None
        ):  # the first call chooses kernels and allocates workspaces, which a graph must not contain
            self._inputs = tuple(None if tensor is None else tensor.clone() for tensor in tensors)
            return self._work(*self._inputs)
        for buffer, value in zip(self._inputs, tensors, strict=True):
            if buffer is not None and value is not None:
                buffer.copy_(value)
        if self._replay is None:
            self._capture()
        if self._replay is None or self._result is None:
            return self._work(*self._inputs)
        self._replay()
        return self._result

    def _capture(self) -> None:
        inputs = self._inputs or ()
        try:
            self._replay, self._result = capture(partial(self._work, *inputs))
        except RuntimeError as error:  # too little memory for a graph, or an operator that cannot be captured
            log.warning("decoding continues without a CUDA graph: %s", str(error).splitlines()[0])
            self._replay = lambda: None
