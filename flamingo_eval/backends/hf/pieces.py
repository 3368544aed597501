"""Long prompts on a CPU are read in pieces, and no piece needs a mask.

Attention is computed over what stands before a piece and over the piece itself, which is causal, and the two are merged
by their softmax's denominators. A piece's activations fit into the processor's caches, and their memory is reused; for
those of thousands of tokens the system hands out new memory in every operation.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

NAME = "flamingo_eval_pieces"  # of the attention function, in transformers' table
PIECE = 1024  # tokens
SHORTEST = 2 * PIECE  # tokens of a prompt that is read in pieces


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece ends after the prompt's first `tokens` tokens and its first `pictures` pictures."""

    tokens: int
    pictures: int


def pieces(ids: Tensor, image_id: int, rows: Sequence[int], size: int = PIECE) -> list[Piece]:
    """Pieces of about `size` tokens that cut no picture in two; `rows`: tokens of each picture. One piece if in doubt.

    `ids` int[S]; those of pictures are `image_id`.
    """
    whole = Piece(len(ids), len(rows))
    places = (ids == image_id).nonzero()[:, 0].tolist()
    n = round(len(ids) / size)
    if len(places) != sum(rows) or n < 2:
        return [whole]
    cuts: list[Piece] = []
    starts = [places[sum(rows[:i])] for i in range(len(rows))]
    ends = [places[sum(rows[: i + 1]) - 1] for i in range(len(rows))]
    for k in range(1, n):
        cut = k * len(ids) // n
        cut = next((start for start, end in zip(starts, ends, strict=True) if start < cut <= end), cut)
        if cut > (cuts[-1].tokens if cuts else 0):
            cuts.append(Piece(cut, sum(start < cut for start in starts)))
    return [*cuts, whole]


@contextmanager
def attention_in_pieces(model: Any) -> Iterator[None]:
    """The decoder's layers attend to a cache and, causally, to new tokens, without a mask."""
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(NAME, _attention)
    AttentionMaskInterface.register(NAME, _no_mask)
    config = model.config.get_text_config()
    before = config._attn_implementation_internal
    config._attn_implementation_internal = NAME
    try:
        yield
    finally:
        config._attn_implementation_internal = before


def _no_mask(*arguments: Any, **options: Any) -> None:
    """No mask is made: there is no padding."""


def _attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Any, *, scaling: float | None = None, **options: Any
) -> tuple[Tensor, None]:
    """[B, H, T, D] and all S keys and values, [B, K, S, D] -> [B, T, H, D]

    Raises ValueError for what plain attention does not do.
    """
    if options.get("softcap") or options.get("sliding_window") or options.get("position_bias") is not None:
        raise ValueError("attention in pieces is plain attention")
    n = key.shape[2] - query.shape[2]
    kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    own, own_sum = kernel(query, key[:, :, n:], value[:, :, n:], 0.0, True, scale=scaling)
    if n:
        past, past_sum = kernel(query, key[:, :, :n], value[:, :, :n], 0.0, False, scale=scaling)
        own = torch.lerp(own, past, torch.sigmoid(past_sum - own_sum)[..., None].to(own.dtype))
    return own.transpose(1, 2).contiguous(), None
