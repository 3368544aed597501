"""Keys and values in buffers with room behind them: a step writes its own tokens instead of copying the whole cache."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

ROOM = 128  # tokens behind a prompt, before a buffer is copied into a larger one


class GrowingLayer(DynamicLayer):  # type: ignore[misc]
    """A layer of full attention; `keys` and `values` [B, H, S, D] are the filled parts of its buffers."""

    keys: Any
    values: Any

    def __init__(self) -> None:
        super().__init__()
        self._buffers: tuple[Tensor, Tensor] | None = None

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Append T tokens. [B, H, T, D] twice -> all keys and values, [B, H, S + T, D] twice"""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        n = self.get_seq_length()
        end = n + key_states.shape[-2]
        if self._buffers is None or end > self._buffers[0].shape[-2]:
            self._buffers = _buffer(self.keys, key_states, n), _buffer(self.values, value_states, n)
        for buffer, states in zip(self._buffers, (key_states, value_states), strict=True):
            buffer[..., n:end, :] = states
        self.keys, self.values = (buffer[..., :end, :] for buffer in self._buffers)
        return self.keys, self.values

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Take the rows int[R], which may repeat; they are copied."""
        super().reorder_cache(beam_idx)
        self._buffers = None  # the next step makes room again


def _buffer(filled: Tensor, new: Tensor, n: int) -> Tensor:
    """Room for n + T tokens and some more, with the first n filled in."""
    shape = (*new.shape[:-2], n + new.shape[-2] + ROOM, new.shape[-1])
    buffer = torch.empty(shape, dtype=new.dtype, device=new.device)
    if n:
        buffer[..., :n, :] = filled
    return buffer


def new_cache(config: Any) -> DynamicCache:
    """An empty cache as the model's own code makes it, with growing buffers where layers have full attention."""
    cache = DynamicCache(config=config)
    cache.layers = [GrowingLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache


def of_rows(cache: Any, index: Tensor) -> Any:
    """A copy of a cache with the rows int[R], which may repeat."""
    if not hasattr(cache, "layers"):
        chosen = copy.deepcopy(cache)
        chosen.reorder_cache(index)
        return chosen
    chosen = copy.copy(cache)
    chosen.layers = [
        copy.copy(layer) if isinstance(layer, GrowingLayer) else copy.deepcopy(layer) for layer in cache.layers
    ]
    chosen.reorder_cache(index)
    return chosen


def cut(cache: Any, tokens: int) -> None:
    """Forget what follows the first `tokens` tokens."""
    cache.crop(tokens - cache.get_seq_length())
