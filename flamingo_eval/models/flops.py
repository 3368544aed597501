"""Floating-point operations of a model's parts, two per multiply-add, from its shapes.

PyTorch counts them while the real modules run on the meta device, so the counts follow the code. No weights are
allocated. Work that the engine skips is not counted: the head at positions that predict nothing, and attention to
pictures that a token cannot see.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TypeVar

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from flamingo_eval.models.config import FlamingoConfig
from flamingo_eval.models.flamingo import Flamingo
from flamingo_eval.models.xattn import VisualKV

T = TypeVar("T")
PROBES = (8, 16, 24)  # lengths that decide the polynomial: projections grow with the length, attention with its square


class ModelFlops:
    """Operations of a model with that configuration. Counts are exact for matrix products and convolutions."""

    def __init__(self, config: FlamingoConfig) -> None:
        self.config = config
        with torch.device("meta"):
            self.flamingo = Flamingo(config).requires_grad_(False)
        self._pictures: dict[int, int] = {}

    @cached_property
    def parameters(self) -> int:
        """Weights in all parts."""
        return sum(p.numel() for p in self.flamingo.parameters())

    def picture(self, frames: int = 1) -> int:
        """Encoder and Resampler on one picture, or on one clip of `frames` frames."""
        if frames not in self._pictures:
            self._pictures[frames] = _count(lambda: self._tokens(frames))[0]
        return self._pictures[frames]

    @cached_property
    def visual_keys(self) -> int:
        """Keys and values of one picture for all gated blocks."""
        return self._keys[0]

    def reading(self, length: int) -> int:
        """Decoder and gated blocks over a prompt of `length` tokens, without the head."""
        constant, linear, square = self._polynomial
        return constant + linear * length + square * length * length

    def next_token(self, length: int) -> int:
        """One more token after `length` others, and its logits."""
        return self.reading(length + 1) - self.reading(length) + self._head

    @property
    def visual_tokens(self) -> int:
        """Number of values stored for a picture: latents times their width."""
        return self._keys[2]

    def kept_keys(self, length: int) -> int:
        """Number of values in the decoder's KV cache of a prompt."""
        decoder = self.config.decoder
        return 2 * decoder.layers * decoder.kv_heads * decoder.head_dim * length

    def _tokens(self, frames: int) -> Tensor:
        size = self.config.preprocess.size
        with torch.device("meta"):
            return self.flamingo.visual_tokens(self.flamingo.features(torch.empty(1, frames, 3, size, size)))

    @cached_property
    def _keys(self) -> tuple[int, dict[int, VisualKV], int]:
        tokens = self._tokens(1)
        flops, keys = _count(lambda: self.flamingo.project_visual(tokens[:, None]))
        return flops, keys, tokens.numel()

    @cached_property
    def _head(self) -> int:
        hidden = torch.empty(1, 1, self.config.decoder.width, device="meta")
        return _count(lambda: self.flamingo.decoder.logits(hidden))[0]

    @cached_property
    def _polynomial(self) -> tuple[int, int, int]:
        """Coefficients of `reading`: constant, per token, per pair of tokens."""
        first, second, third = (self._forward(n) - n * self._head for n in PROBES)
        step = PROBES[1] - PROBES[0]
        square = (third - 2 * second + first) // (2 * step * step)
        linear = (second - first) // step - square * (PROBES[0] + PROBES[1])
        return first - linear * PROBES[0] - square * PROBES[0] ** 2, linear, square

    def _forward(self, length: int) -> int:
        ids = torch.ones(1, length, dtype=torch.long, device="meta")
        keys = self._keys[1]  # not counted
        return _count(lambda: self.flamingo(ids, keys, ids))[0]


def _count(compute: Callable[[], T]) -> tuple[int, T]:
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        result = compute()
    return int(counter.get_total_flops()), result
