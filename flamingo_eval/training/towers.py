"""Contrastive pre-training of the vision encoder with a BERT-style text tower (Flamingo v2 B.1.3).

Shapes: N pairs, S tokens, P positions of the encoder's grid, V its width, D width of the text tower, E shared width.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flamingo_eval.models.config import Activation, NFNetConfig, VisionConfig
from flamingo_eval.models.flamingo import build_vision
from flamingo_eval.models.layers import FeedForward, join_heads, split_heads


@dataclass(frozen=True, slots=True)
class TextTowerConfig:
    """A bidirectional transformer (Devlin et al. 2019), base size by default; the paper does not give its size."""

    vocabulary: int = 30_522
    context: int = 64
    width: int = 768
    layers: int = 12
    heads: int = 12
    ff_width: int = 3072
    activation: Activation = "gelu"
    norm_eps: float = 1e-12


@dataclass(frozen=True, slots=True)
class ContrastiveConfig:
    """Both towers, mean-pooled and projected to one space of 1376 dimensions (v2 B.1.3)."""

    vision: VisionConfig = field(default_factory=lambda: NFNetConfig(image_size=288))
    text: TextTowerConfig = field(default_factory=TextTowerConfig)
    width: int = 1376
    temperature: float = 0.07  # initial value; learned as the logarithm of its inverse
    label_smoothing: float = 0.1


class TextBlock(nn.Module):
    """Self-attention in both directions and feed-forward, each normalised after it is added (BERT)."""

    def __init__(self, config: TextTowerConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.qkv = nn.Linear(config.width, 3 * config.width)
        self.out = nn.Linear(config.width, config.width)
        self.norm1 = nn.LayerNorm(config.width, config.norm_eps)
        self.ff = FeedForward(config.width, config.ff_width, config.activation, bias=True)
        self.norm2 = nn.LayerNorm(config.width, config.norm_eps)

    def forward(self, x: Tensor, real: Tensor) -> Tensor:
        """[N, S, D], bool[N, S] -> [N, S, D]"""
        q, k, v = (split_heads(part, self.heads) for part in self.qkv(x).chunk(3, dim=-1))
        attended = F.scaled_dot_product_attention(q, k, v, real[:, None, None, :])
        x = self.norm1(x + self.out(join_heads(attended)))
        out: Tensor = self.norm2(x + self.ff(x))
        return out


class TextTower(nn.Module):
    """Token ids -> one vector a text."""

    def __init__(self, config: TextTowerConfig) -> None:
        super().__init__()
        self.embedding = nn.Embedding(config.vocabulary, config.width)
        self.positions = nn.Embedding(config.context, config.width)
        self.norm = nn.LayerNorm(config.width, config.norm_eps)
        self.blocks = nn.ModuleList(TextBlock(config) for _ in range(config.layers))

    def forward(self, tokens: Tensor, real: Tensor) -> Tensor:
        """int64[N, S], bool[N, S] (False: padding) -> [N, D], the mean over real tokens"""
        places = torch.arange(tokens.shape[1], device=tokens.device)
        x = self.norm(self.embedding(tokens) + self.positions(places))
        for block in self.blocks:
            x = block(x, real)
        weights = real[:, :, None].to(x.dtype)
        pooled: Tensor = (x * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)
        return pooled


class Contrastive(nn.Module):
    """Two towers and the learned temperature between them."""

    def __init__(self, config: ContrastiveConfig) -> None:
        super().__init__()
        self.config = config
        self.vision = build_vision(config.vision)
        self.text = TextTower(config.text)
        self.project_image = nn.Linear(config.vision.width, config.width, bias=False)
        self.project_text = nn.Linear(config.text.width, config.width, bias=False)
        self.log_inverse_temperature = nn.Parameter(torch.tensor(-math.log(config.temperature)))

    def embed_images(self, pixels: Tensor) -> Tensor:
        """float[N, 3, H, W] -> [N, E] of length 1"""
        features: Tensor = self.vision(pixels)
        return F.normalize(self.project_image(features.mean(dim=1)), dim=-1)

    def embed_texts(self, tokens: Tensor, real: Tensor) -> Tensor:
        """int64[N, S], bool[N, S] -> [N, E] of length 1"""
        return F.normalize(self.project_text(self.text(tokens, real)), dim=-1)

    def forward(self, pixels: Tensor, tokens: Tensor, real: Tensor, same: Tensor | None = None) -> Tensor:
        """The loss of N pairs, a scalar; arguments as in `embed_images`, `embed_texts` and `two_term_loss`."""
        return two_term_loss(
            self.embed_images(pixels),
            self.embed_texts(tokens, real),
            self.log_inverse_temperature.exp(),
            same,
            self.config.label_smoothing,
        )


def two_term_loss(
    images: Tensor,
    texts: Tensor,
    inverse_temperature: Tensor | float,
    same: Tensor | None = None,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Cross-entropy of each picture's text among all texts, plus that of each text's picture. -> scalar

    images, texts [N, E] of length 1; `same` bool[N, N] marks matching pairs (a caption may occur twice), by default
    only those on the diagonal.
    """
    logits = inverse_temperature * images @ texts.T  # [N images, N texts]
    matches = torch.eye(len(logits), device=logits.device) if same is None else same.to(logits.dtype)
    image_to_text = F.cross_entropy(logits, matches / matches.sum(1, keepdim=True), label_smoothing=label_smoothing)
    text_to_image = F.cross_entropy(logits.T, (matches / matches.sum(0)).T, label_smoothing=label_smoothing)
    return image_to_text + text_to_image


def class_embeddings(texts: Tensor) -> Tensor:
    """Classes for zero-shot classification: the mean over templates ("A photo of a {name}.", ...), length 1 again.

    [classes, templates, E] -> [classes, E]
    """
    return F.normalize(texts.mean(dim=1), dim=-1)


def classify(images: Tensor, classes: Tensor) -> Tensor:
    """The nearest class of each picture. [N, E], [classes, E] -> int64[N]"""
    return (images @ classes.T).argmax(dim=1)


def retrieval_recall(
    images: Tensor, texts: Tensor, image_of_text: Sequence[int], at: Sequence[int] = (1, 5, 10)
) -> Mapping[str, float]:
    """Recall at k in both directions, as fractions: `image_to_text_r@1`, ..., `text_to_image_r@10`.

    [I, E], [T, E], the picture of each text. A picture is found if any of its texts is among its k nearest.
    """
    similarity = images @ texts.T  # [I, T]
    owner = torch.tensor(image_of_text, device=images.device)
    matches = owner == torch.arange(len(images), device=images.device)[:, None]  # [I, T]
    recalls: dict[str, float] = {}
    for name, scores, right in (("image_to_text", similarity, matches), ("text_to_image", similarity.T, matches.T)):
        matches_in_order = right.gather(1, scores.argsort(dim=1, descending=True, stable=True))
        recalls |= {f"{name}_r@{k}": float(matches_in_order[:, :k].any(dim=1).float().mean()) for k in at}
    return recalls
