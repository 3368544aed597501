"""Flamingo: frozen vision encoder -> Resampler -> frozen decoder with gated cross-attention (Alayrac et al. 2022).

Shapes: B batch, S text tokens, N pictures or clips (B x M in prompts), T frames, P positions of the encoder's grid,
V width of its features, L visual tokens of a picture, R their width, W vocabulary.

    pixels -> vision -> features -> resampler -> visual tokens -> keys and values -> cross-attention in the decoder
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from flamingo_eval.models.config import FlamingoConfig, NFNetConfig, PoolingConfig, ResamplerConfig, VisionConfig
from flamingo_eval.models.decoder import Decoder
from flamingo_eval.models.kv_cache import DecoderCache
from flamingo_eval.models.nfnet import NFNet
from flamingo_eval.models.resampler import Pooling, Resampler
from flamingo_eval.models.vit import ViT
from flamingo_eval.models.xattn import GatedXattn, VisualKV, image_mask


def build_vision(config: VisionConfig) -> NFNet | ViT:
    """The vision encoder of a configuration: float[N, 3, H, W] -> float[N, P, V]."""
    return NFNet(config) if isinstance(config, NFNetConfig) else ViT(config)


def build_resampler(config: ResamplerConfig | PoolingConfig | None, visual_width: int) -> Resampler | Pooling | None:
    """Features to visual tokens: float[N, T, P, V] -> float[N, L, R]. None: features are the visual tokens."""
    if isinstance(config, PoolingConfig):
        return Pooling(config)
    return None if config is None else Resampler(config, visual_width)


class Flamingo(nn.Module):
    """The network: tensors in, tensors out. LoadedModel (loaded.py) adds tokenizer, pictures and devices."""

    def __init__(self, config: FlamingoConfig) -> None:
        super().__init__()
        self.config = config
        self.ranks = 1  # that share its layers (tensor_parallel.py)
        self.vision = build_vision(config.vision)
        self.resampler = build_resampler(config.resampler, config.vision.width)
        self.xattn = nn.ModuleDict(
            {str(i): GatedXattn(config.xattn, config.decoder.width, config.visual_width) for i in config.xattn_blocks}
        )
        self.decoder = Decoder(config.decoder)

    def gated_block(self, block: int) -> GatedXattn | None:
        """The gated block before that block of the decoder, if there is one."""
        if str(block) not in self.xattn:
            return None
        layer = self.xattn[str(block)]
        assert isinstance(layer, GatedXattn)
        return layer

    def features(self, pixels: Tensor) -> Tensor:
        """The encoder's output for each frame. float[N, T, 3, H, W] -> float[N, T, P, V]"""
        features: Tensor = self.vision(pixels.flatten(0, 1))
        return features.view(*pixels.shape[:2], *features.shape[1:])

    def visual_tokens(self, features: Tensor) -> Tensor:
        """float[N, T, P, V] -> float[N, L, R]"""
        tokens: Tensor = features.flatten(1, 2) if self.resampler is None else self.resampler(features)
        return tokens

    def project_visual(self, visual: Tensor) -> dict[int, VisualKV]:
        """Keys and values of pictures for every gated block, by block. [..., L, R] -> two of [..., H, L, d]"""
        return {i: layer.project_visual(visual) for i in self.config.xattn_blocks if (layer := self.gated_block(i))}

    def forward(
        self,
        tokens: Tensor,
        visual: Mapping[int, VisualKV] | None = None,
        image_of_token: Tensor | None = None,
        positions: Tensor | None = None,
        mask: Tensor | None = None,
        cache: DecoderCache | None = None,
        ancestors: Tensor | None = None,
    ) -> Tensor:
        """Logits of the new tokens, [B, S, W].

        tokens int64[B, S]; visual from `project_visual`, [B, M, H, L, d] (None: no pictures in this batch);
        image_of_token int64[B, S]: the picture each token sees, 1-based, 0 for none; other arguments as in
        Decoder.attention_view.
        """
        positions = self.decoder.next_positions(tokens, mask, cache) if positions is None else positions
        x = self.decoder.embed(tokens, positions)
        view = self.decoder.attention_view(positions, mask, cache, ancestors)
        picture_mask = self._seen(visual, image_of_token)
        for i, block in enumerate(self.decoder.blocks):
            gated = self.gated_block(i)
            if gated is not None:
                x = gated(x, None if visual is None else visual[i], picture_mask)
            x = block(x, i, view, cache)
        return self.decoder.logits(x)

    def _seen(self, visual: Mapping[int, VisualKV] | None, image_of_token: Tensor | None) -> Tensor | None:
        """bool[B, S, M * L]"""
        if not visual or image_of_token is None:
            return None
        keys = next(iter(visual.values()))[0]  # [B, M, H, L, d]
        return image_mask(image_of_token, keys.shape[1], keys.shape[3], self.config.xattn.sees)


def parameter_counts(config: FlamingoConfig) -> dict[str, int]:
    """Parameters of each part, counted on the meta device: vision, resampler, xattn, decoder."""
    with torch.device("meta"):
        flamingo = Flamingo(config)
    parts = {name: sum(p.numel() for p in part.parameters()) for name, part in flamingo.named_children()}
    return {name: parts.get(name, 0) for name in ("vision", "resampler", "xattn", "decoder")}
