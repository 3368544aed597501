"""The engine's KV cache: a prompt's columns once, then one column for every token that branches off the prompt.

Beams and candidates are branches. They never copy the prompt's keys and values or move their own: masks decide which
columns a token sees (masks.py).

Shapes: R rows (prompts), C columns, K key-value heads, d head size, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from flamingo_eval.models.config import DecoderConfig


class SlotCache:
    """A DecoderCache of fixed size: filled a few rows at a time (`fill`), then extended in all rows (`branch`).

    A pinned cache does not grow: a tensor names the columns of new tokens, and all columns are returned.
    """

    def __init__(
        self, config: DecoderConfig, rows: int, columns: int, device: torch.device, dtype: torch.dtype
    ) -> None:
        shape = (config.layers, rows, config.kv_heads, columns, config.head_dim)
        self.keys = torch.zeros(shape, device=device, dtype=dtype)  # zeros: masked values must still be numbers
        self.values = torch.zeros(shape, device=device, dtype=dtype)
        self.positions = torch.zeros(rows, columns, dtype=torch.long, device=device)
        self.inputs: Tensor | None = None
        if config.short_conv:
            self.inputs = torch.zeros(config.layers, rows, columns, config.width, device=device, dtype=dtype)
        self._stored = 0
        self._new = slice(0, 0)
        self._rows = slice(0, rows)
        self._at: Tensor | None = None

    def fill(self, rows: slice) -> None:
        """Write these rows from now on, starting at the first column; other rows are unchanged."""
        self._rows, self._stored = rows, 0

    def fill_prefix(self, prefix: SlotCache, rows: slice) -> None:
        """Like `fill`, after copying the columns of a prefix that these rows share."""
        self.fill(rows)
        self._new = slice(0, prefix.length)
        self._stored = prefix.length
        self.positions[rows, self._new] = prefix.positions
        self.keys[:, rows, :, self._new] = prefix.keys
        self.values[:, rows, :, self._new] = prefix.values
        if self.inputs is not None and prefix.inputs is not None:
            self.inputs[:, rows, self._new] = prefix.inputs

    def branch(self) -> None:
        """Write all rows from now on, after the longest prompt."""
        self._rows = slice(0, self.positions.shape[0])

    def pin(self, columns: Tensor) -> None:
        """Write all rows at these columns from now on. int64[S], read at every write"""
        self.branch()
        self._at, self._stored = columns, self.columns

    @property
    def columns(self) -> int:
        """Number of columns, filled or not."""
        return self.positions.shape[1]

    def keep(self, rows: Tensor) -> None:
        """Drop all rows but these. int64[n] -> the cache has n rows"""
        self.keys, self.values = self.keys[:, rows], self.values[:, rows]
        self.positions = self.positions[rows]
        if self.inputs is not None:
            self.inputs = self.inputs[:, rows]
        self.branch()

    @property
    def length(self) -> int:
        """Number of columns stored; all of them if pinned."""
        return self._stored

    def extend_positions(self, positions: Tensor) -> Tensor:
        """Store the new tokens' positions. int64[r, S] of the r rows being written -> int64[r, T]"""
        if self._at is not None:
            return self.positions.index_copy_(1, self._at, positions)
        self._new = slice(self._stored, self._stored + positions.shape[1])
        self._stored = self._new.stop
        self.positions[self._rows, self._new] = positions
        return self.positions[self._rows, : self._stored]

    def extend(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Store new keys and values. Two of [r, K, S, d] -> two of [r, K, T, d], views"""
        if self._at is not None:
            return self.keys[layer].index_copy_(2, self._at, keys), self.values[layer].index_copy_(2, self._at, values)
        self.keys[layer, self._rows, :, self._new] = keys
        self.values[layer, self._rows, :, self._new] = values
        return self.keys[layer, self._rows, :, : self._stored], self.values[layer, self._rows, :, : self._stored]

    def extend_inputs(self, layer: int, inputs: Tensor) -> Tensor:
        """Store inputs of a short convolution. [r, S, D] -> [r, T, D], a view"""
        assert self.inputs is not None
        if self._at is not None:
            return self.inputs[layer].index_copy_(1, self._at, inputs)
        self.inputs[layer, self._rows, self._new] = inputs
        return self.inputs[layer, self._rows, : self._stored]
