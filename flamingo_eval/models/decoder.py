"""The language model: one decoder for Chinchilla, MPT, GPT-NeoX, LLaMA, Qwen, OPT, GPT-2 and GPT-J, by configuration.

Shapes: B batch, S new tokens, T cached and new tokens, D width, H heads, K key-value heads, d head size, W vocabulary.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flamingo_eval.models.config import DecoderConfig, RotaryScaling
from flamingo_eval.models.kv_cache import DecoderCache
from flamingo_eval.models.layers import FeedForward, join_heads, make_norm, split_heads


@dataclass(frozen=True, slots=True)
class AttentionView:
    """What all layers of a forward pass share: which token sees which, and their distances."""

    mask: Tensor | None  # bool[B, 1, S, T], or float with ALiBi's bias [B, H, S, T]; None: causal, nothing cached
    real: Tensor | None  # bool[B, S]: False where a new token is padding; None: all are real
    rotation: tuple[Tensor, Tensor] | None = None  # cosines and sines, each float[B, 1, S, rotary_dim / 2]
    distances: Tensor | None = None  # int64[B, S, T], query position - key position, for relative positions
    ancestors: Tensor | None = (
        None  # int64[B, S, taps - 1]: columns of the tokens before each; None: its left neighbours
    )


def causal_mask(real: Tensor, n_new: int) -> Tensor:
    """Each of the last `n_new` columns sees the real columns up to itself. bool[B, T] -> bool[B, n_new, T]"""
    total = real.shape[1]
    columns = torch.arange(total, device=real.device)
    return (columns <= columns[total - n_new :, None]) & real[:, None, :]


def alibi_slopes(heads: int, alibi_max: float, device: torch.device | None = None) -> Tensor:
    """ALiBi (Press et al. 2022) as in MPT: other head counts take every second slope of the next power of two.

    -> float32[heads], computed on the device, because a copy to it would wait for it in every step.
    """
    power = 2 ** math.ceil(math.log2(heads))
    steps = torch.arange(1, power + 1, dtype=torch.float64, device=device)
    slopes = torch.exp2(steps * (-alibi_max / power)).float()
    return slopes if power == heads else torch.cat([slopes[1::2], slopes[::2]])[:heads]


def rotate(x: Tensor, rotation: tuple[Tensor, Tensor], pairs: str) -> Tensor:
    """Rotate the leading dimensions of [B, H, S, d] queries or keys by their positions (Su et al. 2021)."""
    cos, sin = (part.to(x.dtype) for part in rotation)
    size = 2 * cos.shape[-1]
    rotated_part, rest = x[..., :size], x[..., size:]
    if pairs == "halves":
        a, b = rotated_part.chunk(2, dim=-1)
        rotated_part = torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)
    else:
        a, b = rotated_part[..., ::2], rotated_part[..., 1::2]
        rotated_part = torch.stack([a * cos - b * sin, b * cos + a * sin], dim=-1).flatten(-2)
    return torch.cat([rotated_part, rest], dim=-1)


def scaled_frequencies(frequencies: Tensor, scaling: RotaryScaling) -> Tensor:
    """Rotary frequencies for a longer context (RotaryScaling says how). float32[n] -> float32[n]"""
    slow = frequencies / scaling.factor
    if scaling.kind == "linear":
        return slow
    lengths = 2 * math.pi / frequencies  # tokens a turn
    share = (scaling.context / lengths - scaling.low) / (scaling.high - scaling.low)
    between = (1 - share) * slow + share * frequencies
    scaled = torch.where(lengths > scaling.context / scaling.low, slow, frequencies)
    medium = (lengths >= scaling.context / scaling.high) & (lengths <= scaling.context / scaling.low)
    return torch.where(medium, between, scaled)


class RelativePositions(nn.Module):
    """Transformer-XL's relative encodings (Dai et al. 2019): a query's score for the distance of a key."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.width, self.heads, self.scale = config.width, config.heads, attention_scale(config)
        self.project = nn.Linear(config.width, config.heads * config.head_dim, bias=False)
        self.content_bias = nn.Parameter(torch.zeros(config.heads, 1, config.head_dim))
        self.distance_bias = nn.Parameter(torch.zeros(config.heads, 1, config.head_dim))

    def forward(self, q: Tensor, distances: Tensor) -> Tensor:
        """[B, H, S, d], int64[B, S, T] -> scaled scores [B, H, S, T]. No distance may reach T.

        All T distances are encoded: finding the largest one would wait for the device in every layer.
        """
        steps = torch.arange(distances.shape[2], device=q.device, dtype=torch.float32)
        frequencies = 10_000.0 ** (-torch.arange(0, self.width, 2, device=q.device) / self.width)
        angles = steps[:, None] * frequencies  # [distances, D / 2]
        sinusoids = torch.cat([angles.sin(), angles.cos()], dim=-1).to(q.dtype)
        r = split_heads(self.project(sinusoids), self.heads)  # [H, distances, d]
        scores = (q + self.distance_bias) @ r.transpose(-1, -2)  # [B, H, S, distances]
        index = distances.clamp(min=0)[:, None].expand(-1, self.heads, -1, -1)
        return scores.gather(-1, index) * self.scale


class ShortConv(nn.Module):
    """Adds to each token a weighted sum, channel by channel, of the few tokens before it."""

    def __init__(self, width: int, taps: int) -> None:
        super().__init__()
        self.taps = nn.Parameter(torch.zeros(taps, width))  # taps[j] is the weight of the token j places back

    def forward(self, x: Tensor, layer: int, view: AttentionView, cache: DecoderCache | None) -> Tensor:
        """[B, S, D] -> [B, S, D]"""
        if view.real is not None:
            x = x.masked_fill(~view.real[:, :, None], 0.0)
        history = x if cache is None else cache.extend_inputs(layer, x)  # [B, T, D]
        n_new, total = x.shape[1], history.shape[1]
        y = x * self.taps[0]
        if view.ancestors is None:
            padded = F.pad(history, (0, 0, len(self.taps) - 1, 0))
            for j in range(1, len(self.taps)):
                first = total - n_new - j + len(self.taps) - 1
                y = y + padded[:, first : first + n_new] * self.taps[j]
            return y
        for j in range(1, len(self.taps)):
            columns = view.ancestors[:, :, j - 1, None]  # [B, S, 1], -1 before the first token
            previous = history.gather(1, columns.clamp(min=0).expand(-1, -1, history.shape[-1]))
            y = y + previous.masked_fill(columns < 0, 0.0) * self.taps[j]
        return y


def attention_scale(config: DecoderConfig) -> float:
    """The factor of attention scores."""
    return config.head_dim**-0.5 if config.attention_scale is None else config.attention_scale


class SelfAttention(nn.Module):
    """Causal self-attention, with the position encodings of all families."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        self.scale = attention_scale(config)
        inner, kv_inner = config.heads * config.head_dim, config.kv_heads * config.head_dim
        self.short_conv = ShortConv(config.width, config.short_conv) if config.short_conv else None
        self.qkv = nn.Linear(config.width, inner + 2 * kv_inner, config.qkv_bias)  # queries, keys, values in this order
        self.query_norm = make_norm("layernorm", inner, config.norm_eps, config.norm_bias) if config.qk_norm else None
        self.key_norm = make_norm("layernorm", kv_inner, config.norm_eps, config.norm_bias) if config.qk_norm else None
        if config.head_norm:
            self.query_norm = make_norm("rmsnorm", config.head_dim, config.norm_eps)
            self.key_norm = make_norm("rmsnorm", config.head_dim, config.norm_eps)
        self.relative = RelativePositions(config) if config.positions == "relative" else None
        self.out = nn.Linear(inner, config.width, config.out_bias)

    def forward(self, x: Tensor, layer: int, view: AttentionView, cache: DecoderCache | None) -> Tensor:
        """[B, S, D] -> [B, S, D]"""
        config = self.config
        if self.short_conv is not None:
            x = self.short_conv(x, layer, view, cache)
        qkv = self.qkv(x)
        if config.clip_qkv is not None:
            qkv = qkv.clamp(-config.clip_qkv, config.clip_qkv)
        kv_inner = config.kv_heads * config.head_dim
        q, k, v = qkv.split([config.heads * config.head_dim, kv_inner, kv_inner], dim=-1)
        if self.query_norm is not None and self.key_norm is not None and not config.head_norm:
            q, k = self.query_norm(q), self.key_norm(k)
        q, k, v = split_heads(q, config.heads), split_heads(k, config.kv_heads), split_heads(v, config.kv_heads)
        if self.query_norm is not None and self.key_norm is not None and config.head_norm:
            q, k = self.query_norm(q), self.key_norm(k)
        if view.rotation is not None:
            q = rotate(q, view.rotation, config.rotary_pairs)
            k = rotate(k, view.rotation, config.rotary_pairs)
        if cache is not None:
            k, v = cache.extend(layer, k, v)
        mask = view.mask
        if self.relative is not None and view.distances is not None:
            scores = self.relative(q, view.distances)
            mask = scores if mask is None else scores.masked_fill(~mask, -math.inf)
            q = q + self.relative.content_bias
        attended = F.scaled_dot_product_attention(
            q, k, v, mask, is_causal=mask is None, scale=self.scale, enable_gqa=config.kv_heads != config.heads
        )
        out: Tensor = self.out(join_heads(attended))
        return out


class Block(nn.Module):
    """Attention and feed-forward, one after the other or side by side."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.parallel = config.parallel
        self.norm1 = make_norm(config.norm, config.width, config.norm_eps, config.norm_bias)
        self.attention = SelfAttention(config)
        shared = config.parallel and config.shared_norm
        self.norm2 = None if shared else make_norm(config.norm, config.width, config.norm_eps, config.norm_bias)
        self.ff = FeedForward(config.width, config.ff_width, config.activation, config.gated_ff, config.ff_bias)

    def forward(self, x: Tensor, layer: int, view: AttentionView, cache: DecoderCache | None) -> Tensor:
        """[B, S, D] -> [B, S, D]"""
        normed = self.norm1(x)
        attended = self.attention(normed, layer, view, cache)
        if self.parallel:
            out: Tensor = x + attended + self.ff(normed if self.norm2 is None else self.norm2(x))
            return out
        x = x + attended
        assert self.norm2 is not None
        out = x + self.ff(self.norm2(x))
        return out


class Decoder(nn.Module):
    """Token ids -> logits. The only state between calls is `cache`."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocabulary, config.width)
        learned = config.positions == "learned"
        self.positions = nn.Embedding(config.context + config.position_offset, config.width) if learned else None
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = (
            make_norm(config.norm, config.width, config.norm_eps, config.norm_bias) if config.final_norm else None
        )
        self.head = None if config.tied_head else nn.Linear(config.width, config.vocabulary, config.head_bias)
        self.own_heads = slice(
            None
        )  # the heads that this process computes: all, unless ranks share them (tensor_parallel.py)

    def embed(self, tokens: Tensor, positions: Tensor) -> Tensor:
        """int64[B, S], int64[B, S] -> [B, S, D]"""
        x: Tensor = self.embedding(tokens)
        if self.positions is not None:
            x = x + self.positions(positions + self.config.position_offset)
        return x

    def logits(self, x: Tensor) -> Tensor:
        """[B, S, D] -> [B, S, W]"""
        if self.norm is not None:
            x = self.norm(x)
        out: Tensor = F.linear(x, self.embedding.weight) if self.head is None else self.head(x)
        if self.config.logit_scale != 1.0:
            out = out * self.config.logit_scale
        if self.config.head_rows is not None:
            out[..., self.config.head_rows :] = -math.inf
        return out

    def next_positions(self, tokens: Tensor, mask: Tensor | None, cache: DecoderCache | None) -> Tensor:
        """Default positions: real tokens counted from 0, in a chain. -> int64[B, S]"""
        start = 0 if cache is None else cache.length
        if mask is None:
            return torch.arange(start, start + tokens.shape[1], device=tokens.device).expand_as(tokens)
        return (mask.sum(dim=-1) - 1).clamp(min=0)  # a token of a chain sees all real tokens up to itself

    def attention_view(
        self,
        positions: Tensor,
        mask: Tensor | None = None,
        cache: DecoderCache | None = None,
        ancestors: Tensor | None = None,
    ) -> AttentionView:
        """Prepare one pass over new tokens at `positions`; stores them in the cache.

        int64[B, S]; bool[B, S, T] (True: sees) with False at a padding token's own column, or None for a plain chain;
        int64[B, S, taps - 1] columns of the tokens before each one (-1: none), for trees.
        """
        n_new = positions.shape[1]
        cached = 0 if cache is None else cache.length
        key_positions = positions if cache is None else cache.extend_positions(positions)  # [B, T]
        real = None
        if mask is not None:
            if (
                mask.shape[2] > cached
            ):  # otherwise the cache is pinned, and its mask contains every new token's own column
                real = mask.diagonal(cached, 1, 2)  # [B, S]
            own_column = torch.eye(n_new, mask.shape[2] - cached, dtype=torch.bool, device=mask.device)
            mask = mask | F.pad(own_column, (cached, 0))  # padding sees itself, so that no softmax is empty
        elif (n_new > 1 and cached) or self.config.positions in ("alibi", "relative"):
            mask = causal_mask(torch.ones_like(key_positions, dtype=torch.bool), n_new)
        elif cached:
            mask = torch.ones(1, 1, cached + n_new, dtype=torch.bool, device=positions.device)
        distances = positions[:, :, None] - key_positions[:, None, :]  # [B, S, T]
        head_mask = None if mask is None else mask[:, None]
        if self.config.positions == "alibi" and head_mask is not None:
            slopes = alibi_slopes(self.config.heads, self.config.alibi_max, positions.device)[self.own_heads]
            bias = -slopes[:, None, None] * distances[:, None]  # [B, H, S, T]
            head_mask = bias.masked_fill(~head_mask, -math.inf).to(self.embedding.weight.dtype)
        return AttentionView(
            head_mask,
            real,
            self._rotation(positions),
            distances if self.config.positions == "relative" else None,
            ancestors,
        )

    def _rotation(self, positions: Tensor) -> tuple[Tensor, Tensor] | None:
        if self.config.positions != "rotary":
            return None
        size = self.config.rotary_dim
        steps = torch.arange(0, size, 2, device=positions.device, dtype=torch.float32) / size
        frequencies = 1.0 / self.config.rotary_base**steps
        if self.config.rotary_scaling is not None:
            frequencies = scaled_frequencies(frequencies, self.config.rotary_scaling)
        angles = positions[:, None, :, None].float() * frequencies  # [B, 1, S, size / 2]
        return angles.cos(), angles.sin()

    def forward(
        self,
        tokens: Tensor,
        positions: Tensor | None = None,
        mask: Tensor | None = None,
        cache: DecoderCache | None = None,
        ancestors: Tensor | None = None,
    ) -> Tensor:
        """int64[B, S] -> logits [B, S, W]; the other arguments as in `attention_view`."""
        positions = self.next_positions(tokens, mask, cache) if positions is None else positions
        x = self.embed(tokens, positions)
        view = self.attention_view(positions, mask, cache, ancestors)
        for i, block in enumerate(self.blocks):
            x = block(x, i, view, cache)
        return self.logits(x)
