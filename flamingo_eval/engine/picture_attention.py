"""One pass through the decoder in which every token attends to its own picture alone.

A token sees one picture, so attending to all pictures under a mask would cost the square of the shots. Tokens are cut
into pieces that see one picture each, and a piece attends to that picture's keys and values, which are computed once.

Shapes: B prompts, S new tokens, P different pictures, C pieces, H heads, L visual tokens, d head size, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from flamingo_eval.engine.kv_slots import SlotCache
from flamingo_eval.models.flamingo import Flamingo
from flamingo_eval.models.xattn import CrossAttention, GatedXattn, VisualKV

PIECE = 32  # tokens; always the same, so that a token's result does not depend on what else is in the batch


@dataclass(frozen=True, slots=True)
class Pieces:
    """Which tokens see which picture.

    `tokens` int64[C, piece]: flat index into B * S (any index if a piece is not full); `pictures` int64[C]: the
    picture of each piece (None: piece c sees picture c). The n tokens that see a picture have the indices
    `token_indices` int64[n] in the flat batch and `placed` int64[n] in the flat pieces.
    """

    tokens: Tensor
    pictures: Tensor | None
    token_indices: Tensor
    placed: Tensor

    @classmethod
    def of(cls, picture_of_token: Sequence[Sequence[int]], device: torch.device) -> Pieces | None:
        """From the picture of each token (-1 for none and for padding); None if no token sees a picture."""
        tokens: list[list[int]] = []
        pictures: list[int] = []
        token_indices: list[int] = []
        placed: list[int] = []
        for row, row_pictures in enumerate(picture_of_token):
            last = -1
            for column, picture in enumerate(row_pictures):
                if picture >= 0:
                    if picture != last or len(tokens[-1]) == PIECE:
                        tokens.append([])
                        pictures.append(picture)
                    placed.append((len(tokens) - 1) * PIECE + len(tokens[-1]))
                    tokens[-1].append(row * len(row_pictures) + column)
                    token_indices.append(tokens[-1][-1])
                last = picture
        if not tokens:
            return None
        full = [piece + [piece[-1]] * (PIECE - len(piece)) for piece in tokens]
        return cls(*(torch.tensor(values, device=device) for values in (full, pictures, token_indices, placed)))

    @classmethod
    def of_rows(cls, rows: int, width: int, has_picture: Sequence[bool], device: torch.device) -> Pieces | None:
        """Row i's `width` tokens all see picture i if `has_picture[i]`; other rows are computed and dropped."""
        if not any(has_picture):
            return None
        tokens = torch.arange(rows * width).view(rows, width)
        token_indices = (
            tokens[torch.tensor(has_picture)].flatten().to(device)
        )  # on the host: indexing with a mask would wait for the device
        return cls(tokens.to(device), None, token_indices, token_indices)


def attend_own_picture(attention: CrossAttention, x: Tensor, visual: VisualKV, pieces: Pieces) -> Tensor:
    """[B, S, D], two of [P, H, L, d] -> [B, S, D]; zeros if a token sees no picture"""
    keys, values = visual
    q = attention.queries(x).view(-1, attention.heads, keys.shape[-1])  # [B * S, H, d]
    q = q[pieces.tokens].transpose(1, 2)  # [C, H, piece, d]
    if attention.query_norm is not None:
        q = attention.query_norm(q)
    if pieces.pictures is not None:
        keys, values = keys[pieces.pictures], values[pieces.pictures]
    attended = F.scaled_dot_product_attention(q, keys, values).transpose(1, 2).flatten(0, 1)  # [C * piece, H, d]
    by_token = attended.new_zeros(x.shape[0] * x.shape[1], attended.shape[1] * attended.shape[2])
    by_token[pieces.token_indices] = attended[pieces.placed].flatten(1)
    out: Tensor = attention.out(by_token.view(*x.shape[:2], -1))
    return out


def gated_step(layer: GatedXattn, y: Tensor, visual: VisualKV | None, pieces: Pieces | None) -> Tensor:
    """The gated block of models/xattn.py over pieces. [B, S, D] -> [B, S, D]"""
    before = y
    if visual is not None and pieces is not None:
        y = y + layer.attention_gate.tanh() * attend_own_picture(layer.attention, layer.norm(y), visual, pieces)
    elif layer.keeps_text:
        return y
    out: Tensor = y + layer.ff_gate.tanh() * layer.ff(layer.norm_ff(y))
    if layer.keeps_text and pieces is not None:
        kept = before.flatten(0, 1).clone()
        kept[pieces.token_indices] = out.flatten(0, 1)[pieces.token_indices]
        out = kept.view_as(before)
    return out


def read(
    flamingo: Flamingo,
    tokens: Tensor,
    positions: Tensor,
    cache: SlotCache,
    visual: Callable[[int, GatedXattn], VisualKV | None],
    pieces: Pieces | None,
    mask: Tensor | None = None,
    ancestors: Tensor | None = None,
) -> Tensor:
    """Read new tokens into the cache. int64[B, S] and as in Decoder.attention_view -> [B, S, D], before the last norm.

    `visual` gives the keys and values of the pictures for a gated block, [P, H, L, d] each.
    """
    x = flamingo.decoder.embed(tokens, positions)
    view = flamingo.decoder.attention_view(positions, mask, cache, ancestors)
    for i, block in enumerate(flamingo.decoder.blocks):
        gated = flamingo.gated_block(i)
        if gated is not None:
            x = gated_step(gated, x, visual(i, gated), pieces)
        x = block(x, i, view, cache)
    return x
