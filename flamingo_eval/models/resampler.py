"""Features of any number of frames -> a fixed number of tokens: the Perceiver Resampler (v2 A.1.1), or plain averages.

Shapes: N pictures or clips, T frames, P grid positions, L latents, V width of the features, R width of the Resampler.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flamingo_eval.models.config import PoolingConfig, ResamplerConfig
from flamingo_eval.models.layers import FeedForward, join_heads, split_heads


class ResamplerAttention(nn.Module):
    """Cross-attention from latents to features; the latents are also among the keys and values."""

    def __init__(self, config: ResamplerConfig) -> None:
        super().__init__()
        self.heads = config.heads
        inner = config.heads * config.head_dim
        self.norm_features = nn.LayerNorm(config.width, config.norm_eps)
        self.norm_latents = nn.LayerNorm(config.width, config.norm_eps)
        self.queries = nn.Linear(config.width, inner, bias=False)
        self.keys_values = nn.Linear(config.width, 2 * inner, bias=False)
        self.query_norm = nn.LayerNorm(config.head_dim, config.norm_eps) if config.qk_norm else None
        self.key_norm = nn.LayerNorm(config.head_dim, config.norm_eps) if config.qk_norm else None
        self.out = nn.Linear(inner, config.width, bias=False)

    def forward(self, latents: Tensor, features: Tensor) -> Tensor:
        """[N, L, R], [N, T * P, R] -> [N, L, R]"""
        latents = self.norm_latents(latents)
        inputs = torch.cat([self.norm_features(features), latents], dim=1)  # [N, T * P + L, R]
        q = split_heads(self.queries(latents), self.heads)
        k, v = (split_heads(part, self.heads) for part in self.keys_values(inputs).chunk(2, dim=-1))
        if self.query_norm is not None and self.key_norm is not None:
            q, k = self.query_norm(q), self.key_norm(k)
        out: Tensor = self.out(join_heads(F.scaled_dot_product_attention(q, k, v)))
        return out


class ResamplerLayer(nn.Module):
    """Attention and feed-forward, each added to the latents."""

    def __init__(self, config: ResamplerConfig) -> None:
        super().__init__()
        self.attention = ResamplerAttention(config)
        self.norm_ff = nn.LayerNorm(config.width, config.norm_eps)
        self.ff = FeedForward(config.width, config.ff_width, config.activation)

    def forward(self, latents: Tensor, features: Tensor) -> Tensor:
        """[N, L, R], [N, T * P, R] -> [N, L, R]"""
        latents = latents + self.attention(latents, features)
        out: Tensor = latents + self.ff(self.norm_ff(latents))
        return out


class Resampler(nn.Module):
    """Features of a clip, or of a picture as a clip of one frame -> `latents` tokens."""

    def __init__(self, config: ResamplerConfig, visual_width: int) -> None:
        super().__init__()
        self.config = config
        self.project = nn.Linear(visual_width, config.width) if config.project_input else None
        self.time = nn.Parameter(torch.zeros(config.frames, config.width)) if config.frames else None
        self.grid = nn.Parameter(torch.zeros(config.grid, config.width)) if config.grid else None
        self.latents = nn.Parameter(torch.zeros(config.latents, config.width))
        self.layers = nn.ModuleList(ResamplerLayer(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width, config.norm_eps)

    def forward(self, features: Tensor) -> Tensor:
        """float[N, T, P, V] -> float[N, L, R]"""
        x = features if self.project is None else self.project(features)
        if self.time is not None:
            x = x + time_embeddings(self.time, x.shape[1])[:, None]
        if self.grid is not None:
            x = x + self.grid
        x = x.flatten(1, 2)  # [N, T * P, R]
        latents = self.latents.expand(len(x), -1, -1)
        for layer in self.layers:
            latents = layer(latents, x)
        out: Tensor = self.norm(latents)
        return out


class Pooling(nn.Module):
    """Averages over fields of the grid and over frames, without parameters."""

    def __init__(self, config: PoolingConfig) -> None:
        super().__init__()
        self.config = config

    def forward(self, features: Tensor) -> Tensor:
        """float[N, T, P, V] -> float[N, side * side, V]. Raises ValueError if P is not a square (a class token)."""
        grid = math.isqrt(features.shape[2])
        if grid * grid != features.shape[2]:
            raise ValueError(f"{features.shape[2]} positions do not form a square grid.")
        maps = features.mean(dim=1).transpose(1, 2).reshape(len(features), -1, grid, grid)
        return F.adaptive_avg_pool2d(maps, self.config.side).flatten(2).transpose(1, 2)


def time_embeddings(learned: Tensor, frames: int) -> Tensor:
    """Embeddings of `frames` frames: the first ones, or all of them interpolated linearly if there are more frames.

    The paper (v2 B.1.2) interpolates 8 to 30 and does not say how the ends are aligned: here the first embedding is
    that of the first frame, the last that of the last. float[learned, R] -> float[frames, R]
    """
    if frames <= len(learned):
        return learned[:frames]
    if len(learned) == 1:
        return learned.expand(frames, -1)
    stretched = F.interpolate(learned.T[None].float(), size=frames, mode="linear", align_corners=True)
    return stretched[0].T.to(learned.dtype)
