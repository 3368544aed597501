"""Operations of an update: counted by PyTorch on the meta device for each shape of batch, forward and backward.

The backward pass goes through frozen blocks (only for the gradients of their inputs) and new ones. Recomputation by
checkpointing is not counted.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch.utils.flop_counter import FlopCounterMode

from flamingo_eval.models.checkpoint import meta_flamingo
from flamingo_eval.models.config import FlamingoConfig
from flamingo_eval.training.bridge.network import Bridge
from flamingo_eval.training.bridge.sequences import Batch


class UpdateFlops:
    """Operations of forward and backward passes, two per multiply-add."""

    def __init__(self, config: FlamingoConfig, tokens: int) -> None:
        self.bridge = Bridge(meta_flamingo(config), tokens)
        self._counted: dict[object, tuple[int, int]] = {}  # all but the head, and the head of a token

    def of(self, batch: Batch) -> int:
        """Operations of one batch."""
        key = (batch.tokens.shape, batch.places.shape, *(group.shape for group in batch.pixels), batch.mask is None)
        if key not in self._counted:
            without = self._count(replace(batch, picked=batch.picked[:0], targets=batch.targets[:0]))
            with_one = self._count(replace(batch, picked=batch.picked[:1], targets=batch.targets[:1]))
            self._counted[key] = without, with_one - without
        rest, head = self._counted[key]
        return rest + len(batch.targets) * head

    def _count(self, batch: Batch) -> int:
        with FlopCounterMode(display=False) as counter:
            self.bridge(batch.to(torch.device("meta"))).backward()
        self.bridge.zero_grad(set_to_none=True)
        return int(counter.get_total_flops())
