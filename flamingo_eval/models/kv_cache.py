"""The KV cache: keys and values, in every layer, of the tokens read so far, and their positions."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor


class DecoderCache(Protocol):
    """The interface of a cache for the decoder; engines have their own.

    B rows, T columns: those stored before the call (`length`), then the S new ones.
    """

    @property
    def length(self) -> int:
        """Columns stored."""
        ...

    def extend_positions(self, positions: Tensor) -> Tensor:
        """Store the new tokens' positions, before the first layer. int64[B, S] -> all positions, int64[B, T]"""
        ...

    def extend(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Store new keys and values, each [B, K, S, d]. -> all of that layer's, each [B, K, T, d]"""
        ...

    def extend_inputs(self, layer: int, inputs: Tensor) -> Tensor:
        """Store inputs of a layer's short convolution. [B, S, D] -> all of them, [B, T, D]"""
        ...


class KVCache:
    """The plain cache, which grows by concatenation."""

    def __init__(self, layers: int) -> None:
        self.positions: Tensor | None = None
        self.keys: list[Tensor | None] = [None] * layers
        self.values: list[Tensor | None] = [None] * layers
        self.inputs: list[Tensor | None] = [None] * layers

    @property
    def length(self) -> int:
        """Columns stored."""
        return 0 if self.positions is None else self.positions.shape[1]

    def extend_positions(self, positions: Tensor) -> Tensor:
        """Store the new tokens' positions. int64[B, S] -> int64[B, T]"""
        self.positions = _append(self.positions, positions, dim=1)
        return self.positions

    def extend(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Store new keys and values. Two of [B, K, S, d] -> two of [B, K, T, d]"""
        all_keys = _append(self.keys[layer], keys, dim=2)
        all_values = _append(self.values[layer], values, dim=2)
        self.keys[layer], self.values[layer] = all_keys, all_values
        return all_keys, all_values

    def extend_inputs(self, layer: int, inputs: Tensor) -> Tensor:
        """Store inputs of a short convolution. [B, S, D] -> [B, T, D]"""
        inputs_so_far = _append(self.inputs[layer], inputs, dim=1)
        self.inputs[layer] = inputs_so_far
        return inputs_so_far

    def select(self, rows: Tensor) -> KVCache:
        """A new cache whose row i is this one's row rows[i]. int64[B']"""
        selected = KVCache(len(self.keys))
        selected.positions = None if self.positions is None else self.positions[rows]
        selected.keys = [None if k is None else k[rows] for k in self.keys]
        selected.values = [None if v is None else v[rows] for v in self.values]
        selected.inputs = [None if x is None else x[rows] for x in self.inputs]
        return selected


def _append(stored: Tensor | None, new: Tensor, dim: int) -> Tensor:
    return new if stored is None else torch.cat([stored, new], dim)
