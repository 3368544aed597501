"""CLIP's vision transformer (Radford et al. 2021), the vision encoder of OpenFlamingo and IDEFICS, and SigLIP's.

Shapes: N pictures, P patches, V width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flamingo_eval.models.config import ViTConfig
from flamingo_eval.models.layers import FeedForward, join_heads, split_heads


class Block(nn.Module):
    """Pre-norm self-attention and feed-forward, all with biases."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.norm1 = nn.LayerNorm(config.width, config.norm_eps)
        self.qkv = nn.Linear(config.width, 3 * config.width)
        self.out = nn.Linear(config.width, config.width)
        self.norm2 = nn.LayerNorm(config.width, config.norm_eps)
        self.ff = FeedForward(config.width, config.ff_width, config.activation, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        """[N, 1 + P, V] -> [N, 1 + P, V]"""
        q, k, v = (split_heads(part, self.heads) for part in self.qkv(self.norm1(x)).chunk(3, dim=-1))
        x = x + self.out(join_heads(F.scaled_dot_product_attention(q, k, v)))
        out: Tensor = x + self.ff(self.norm2(x))
        return out


class ViT(nn.Module):
    """Pixels -> patch tokens of the last layer (with the class token and the last norm, if configured)."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.config = config
        n_patches = (config.image_size // config.patch) ** 2
        self.patches = nn.Conv2d(3, config.width, config.patch, config.patch, bias=config.patch_bias)
        self.class_token = nn.Parameter(torch.zeros(config.width)) if config.has_class_token else None
        self.positions = nn.Parameter(torch.zeros(n_patches + int(config.has_class_token), config.width))
        self.norm_in = nn.LayerNorm(config.width, config.norm_eps) if config.norm_in else None
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm_out = nn.LayerNorm(config.width, config.norm_eps) if config.final_norm else None

    def forward(self, pixels: Tensor) -> Tensor:
        """float[N, 3, image_size, image_size] -> float[N, P (+ 1 with the class token), V]"""
        x = self.patches(pixels).flatten(2).transpose(1, 2)  # [N, P, V]
        if self.class_token is not None:
            x = torch.cat([self.class_token.expand(len(x), 1, -1), x], dim=1)
        x = x + self.positions
        if self.norm_in is not None:
            x = self.norm_in(x)
        for block in self.blocks:
            x = block(x)
        if self.norm_out is not None:
            x = self.norm_out(x)
        out: Tensor = x if self.class_token is None or self.config.class_token else x[:, 1:]
        return out
