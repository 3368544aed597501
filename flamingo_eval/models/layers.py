"""Layers that encoder, Resampler, cross-attention and decoder share."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from flamingo_eval.models.config import Activation, Norm


def squared_relu(x: Tensor) -> Tensor:
    """max(0, x)^2 (So et al. 2021), the activation of Flamingo's trained parts."""
    return F.relu(x).square()


def quick_gelu(x: Tensor) -> Tensor:
    """x * sigmoid(1.702 x), OpenAI's approximation in CLIP."""
    return x * (1.702 * x).sigmoid()


def gelu_tanh(x: Tensor) -> Tensor:
    """The tanh approximation of GELU (GPT-2, GPT-J)."""
    return F.gelu(x, approximate="tanh")


ACTIVATIONS: dict[Activation, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_tanh": gelu_tanh,
    "quick_gelu": quick_gelu,
    "relu": F.relu,
    "squared_relu": squared_relu,
    "silu": F.silu,
}


def make_norm(kind: Norm, width: int, eps: float, bias: bool = True) -> nn.Module:
    """LayerNorm or RMSNorm over the last dimension."""
    return nn.RMSNorm(width, eps) if kind == "rmsnorm" else nn.LayerNorm(width, eps, bias=bias)


class FeedForward(nn.Module):
    """out(act(in(x))), or with a gate out(act(gate(x)) * in(x)) as in LLaMA. [..., D] -> [..., D]"""

    def __init__(
        self, width: int, ff_width: int, activation: Activation, gated: bool = False, bias: bool = False
    ) -> None:
        super().__init__()
        self.act = ACTIVATIONS[activation]
        self.up = nn.Linear(width, ff_width, bias)
        self.gate = nn.Linear(width, ff_width, bias) if gated else None
        self.down = nn.Linear(ff_width, width, bias)

    def forward(self, x: Tensor) -> Tensor:
        """[..., D] -> [..., D]"""
        hidden = self.act(self.up(x)) if self.gate is None else self.act(self.gate(x)) * self.up(x)
        out: Tensor = self.down(hidden)
        return out


def split_heads(x: Tensor, heads: int) -> Tensor:
    """[..., S, heads * d] -> [..., heads, S, d]"""
    return x.view(*x.shape[:-1], heads, -1).transpose(-3, -2)


def join_heads(x: Tensor) -> Tensor:
    """[..., heads, S, d] -> [..., S, heads * d]"""
    return x.transpose(-3, -2).flatten(-2)
