"""Gated cross-attention: how a frozen language model sees pictures (Flamingo v2 section 2.2, figure 4).

Shapes: B batch, S text tokens, M pictures, L tokens of a picture, D decoder width, R visual width, H heads of size d.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flamingo_eval.models.config import XattnConfig
from flamingo_eval.models.layers import FeedForward, join_heads, make_norm, split_heads

VisualKV = tuple[Tensor, Tensor]  # keys and values of pictures, each [..., H, L, d]


def image_mask(image_of_token: Tensor, images: int, latents: int, sees: Literal["last", "all"] = "last") -> Tensor:
    """Which visual tokens each text token may see: those of the last picture before it (v2 2.3), or of all.

    int64[B, S], 1-based and 0 for none -> bool[B, S, M * L]
    """
    columns = torch.arange(images * latents, device=image_of_token.device)
    ends = image_of_token[:, :, None] * latents  # not columns // latents: a compiler would divide once per score
    is_earlier = columns < ends
    return is_earlier & (columns >= ends - latents) if sees == "last" else is_earlier


class CrossAttention(nn.Module):
    """Cross-attention from text to the tokens of its picture. Text without a picture gets zeros."""

    def __init__(self, config: XattnConfig, width: int, visual_width: int) -> None:
        super().__init__()
        self.heads = config.heads
        inner = config.heads * config.head_dim
        self.norm_visual = make_norm(config.norm, visual_width, config.norm_eps) if config.norm_visual else None
        self.queries = nn.Linear(width, inner, bias=False)
        self.keys_values = nn.Linear(visual_width, 2 * inner, bias=False)
        self.query_norm = make_norm(config.qk_norm, config.head_dim, config.norm_eps) if config.qk_norm else None
        self.key_norm = make_norm(config.qk_norm, config.head_dim, config.norm_eps) if config.qk_norm else None
        self.out = nn.Linear(inner, width, bias=False)

    def project_visual(self, visual: Tensor) -> VisualKV:
        """Keys and values of pictures; they do not depend on the text. [..., L, R] -> two of [..., H, L, d]"""
        if self.norm_visual is not None:
            visual = self.norm_visual(visual)
        k, v = (split_heads(part, self.heads) for part in self.keys_values(visual).chunk(2, dim=-1))
        return (k if self.key_norm is None else self.key_norm(k)), v

    def forward(self, x: Tensor, keys: Tensor, values: Tensor, picture_mask: Tensor) -> Tensor:
        """[B, S, D], two of [B, H, T, d], bool[B, S, T] -> [B, S, D]"""
        q = split_heads(self.queries(x), self.heads)  # [B, H, S, d]
        if self.query_norm is not None:
            q = self.query_norm(q)
        sees_any = picture_mask.any(dim=-1, keepdim=True)  # [B, S, 1]
        attended = F.scaled_dot_product_attention(q, keys, values, (picture_mask | ~sees_any)[:, None])
        out: Tensor = self.out(join_heads(attended))
        return out.masked_fill(~sees_any, 0.0)


class GatedXattn(nn.Module):
    """y += tanh(a1) * xattn(y, visual); y += tanh(a2) * ff(y). At a = 0, the start of training, y is unchanged.

    With `keeps_text`, tokens that see no picture stay unchanged at any a: the language model's text is what it was.
    """

    def __init__(self, config: XattnConfig, width: int, visual_width: int) -> None:
        super().__init__()
        self.keeps_text = config.keeps_text
        n_gates = width if config.gate == "vector" else 1
        self.norm = make_norm(config.norm, width, config.norm_eps)
        self.attention = CrossAttention(config, width, visual_width)
        self.attention_gate = nn.Parameter(torch.zeros(n_gates))
        self.norm_ff = make_norm(config.norm, width, config.norm_eps)
        self.ff = FeedForward(width, config.ff_width, config.activation, config.gated_ff)
        self.ff_gate = nn.Parameter(torch.zeros(n_gates))

    def project_visual(self, visual: Tensor) -> VisualKV:
        """Keys and values of pictures. [..., L, R] -> two of [..., H, L, d]"""
        return self.attention.project_visual(visual)

    def forward(self, y: Tensor, visual: VisualKV | None, picture_mask: Tensor | None) -> Tensor:
        """[B, S, D], two of [B, M, H, L, d], bool[B, S, M * L] -> [B, S, D]; None if the batch has no pictures"""
        before = y
        if visual is not None and picture_mask is not None:
            keys, values = (part.transpose(1, 2).flatten(2, 3) for part in visual)  # [B, H, M * L, d]
            y = y + self.attention_gate.tanh() * self.attention(self.norm(y), keys, values, picture_mask)
        elif self.keeps_text:
            return y
        out: Tensor = y + self.ff_gate.tanh() * self.ff(self.norm_ff(y))
        if self.keeps_text and picture_mask is not None:
            out = torch.where(picture_mask.any(dim=-1, keepdim=True), out, before)
        return out
