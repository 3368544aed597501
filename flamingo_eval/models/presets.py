"""Named models. `flamingo-*` are the paper's, `openflamingo-*` and `idefics-*` the shapes of the published ones.

The paper's tables are inconsistent (v2 tables 4 and 5): the printed 1.6B of cross-attention at 9B and 10B at 80B do not
follow from the printed layers, widths and heads (1.8B and 8.4B), nor do 7.1B for a decoder of 40 layers of 4096 (8.9B
with these defaults, 8.2B without the projections of relative positions) and 194M for a Resampler with 96 a head (128 a
head would give it). Sizes here are the printed shapes, even where they do not give the printed count.
"""

from __future__ import annotations

from dataclasses import replace

from flamingo_eval.errors import CheckpointError, did_you_mean
from flamingo_eval.models.config import (
    DecoderConfig,
    FlamingoConfig,
    NFNetConfig,
    PoolingConfig,
    PreprocessConfig,
    ResamplerConfig,
    TokenConfig,
    ViTConfig,
    XattnConfig,
)

# ------------------------------------------------------------------------------------------------------------- encoders

NFNETS: dict[str, NFNetConfig] = {
    f"F{n}": NFNetConfig(depths=tuple((n + 1) * depth for depth in (1, 2, 6, 3))) for n in range(7)
}

VITS: dict[str, ViTConfig] = {
    "ViT-B-32": ViTConfig(patch=32, width=768, layers=12, heads=12, ff_width=3072),
    "ViT-B-16": ViTConfig(patch=16, width=768, layers=12, heads=12, ff_width=3072),
    "ViT-L-14": ViTConfig(),
    "ViT-L-14-336": ViTConfig(image_size=336),
    "ViT-H-14": ViTConfig(width=1280, layers=32, heads=16, ff_width=5120, activation="gelu"),
}

# ------------------------------------------------------------------------------------------------------ Flamingo (2022)


def _flamingo(name: str, layers: int, width: int, heads: int, every: int) -> FlamingoConfig:
    decoder = DecoderConfig(layers=layers, width=width, heads=heads, kv_heads=heads, ff_width=4 * width)
    xattn = XattnConfig(every=every, heads=heads, ff_width=4 * width)
    return FlamingoConfig(name, decoder=decoder, xattn=xattn)


# A model of a few million parameters that reads 64-pixel pictures and learns in context on a CPU. Everything is the
# paper's architecture except what a small size needs: folded pixels instead of a deep stem, learned grid embeddings in
# the Resampler, short convolutions and rotary positions in the decoder.
TINY = FlamingoConfig(
    "tiny",
    vision=NFNetConfig(
        image_size=64,
        depths=(1, 2),
        widths=(64, 128),
        stem="space_to_depth",
        stem_width=64,
        group_width=64,
        bottleneck=1.0,
        final_width=0,
    ),
    preprocess=PreprocessConfig(size=64, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25)),
    resampler=ResamplerConfig(width=192, layers=2, heads=6, head_dim=32, latents=8, ff_width=384, grid=64),
    xattn=XattnConfig(heads=6, head_dim=32, ff_width=384),
    decoder=DecoderConfig(
        vocabulary=768,
        layers=4,
        width=192,
        heads=6,
        kv_heads=6,
        head_dim=32,
        ff_width=768,
        positions="rotary",
        rotary_dim=16,
        rotary_base=1000.0,
        short_conv=4,
    ),
    tokens=TokenConfig(image_is_token=True),
)

# Variants that show what a part does (docs/training.md): averages instead of the Resampler; text sees all pictures.
TINY_POOLED = replace(TINY, name="tiny-pooled", resampler=PoolingConfig())
TINY_ALL_PICTURES = replace(TINY, name="tiny-all-pictures", xattn=replace(TINY.xattn, sees="all"))

# The larger version for one GPU: about sixty million parameters, 128-pixel pictures.
BASE = FlamingoConfig(
    "base",
    vision=NFNetConfig(
        image_size=128,
        depths=(1, 2, 3),
        widths=(128, 256, 384),
        stem="space_to_depth",
        stem_width=128,
        group_width=64,
        bottleneck=1.0,
        final_width=0,
    ),
    preprocess=PreprocessConfig(size=128, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25)),
    resampler=ResamplerConfig(width=512, layers=3, heads=8, head_dim=64, latents=16, ff_width=2048, grid=64),
    xattn=XattnConfig(heads=8, head_dim=64, ff_width=2048),
    decoder=DecoderConfig(
        layers=8,
        width=512,
        heads=8,
        kv_heads=8,
        head_dim=64,
        ff_width=2048,
        positions="rotary",
        rotary_dim=32,
        rotary_base=1000.0,
        short_conv=4,
    ),
    tokens=TokenConfig(image_is_token=True),
)

# ----------------------------------------------------------------------------------------------------- OpenFlamingo, v2

OPENFLAMINGO_RESAMPLER = ResamplerConfig(
    width=1024, heads=8, head_dim=64, ff_width=4096, activation="gelu", frames=0, project_input=False
)
OPENFLAMINGO_XATTN = XattnConfig(placement="last", heads=8, head_dim=64, activation="gelu", norm_visual=False)
OPENFLAMINGO_TOKENS = TokenConfig(
    image_is_token=True, end_of_chunk="<|endofchunk|>", stop=("<|endofchunk|>",), clean_up_spaces=True
)
CLIP_PIXELS = PreprocessConfig(size=224, fit="crop")

_MPT = DecoderConfig(
    vocabulary=50_280,
    norm="layernorm",
    norm_eps=1e-5,
    positions="alibi",
)
MPT_1B = replace(_MPT, qk_norm=True)
MPT_7B = replace(_MPT, layers=32, width=4096, heads=32, kv_heads=32, ff_width=16_384)
REDPAJAMA_3B = DecoderConfig(
    vocabulary=50_280,
    layers=32,
    width=2560,
    heads=32,
    kv_heads=32,
    head_dim=80,
    ff_width=10_240,
    norm="layernorm",
    norm_eps=1e-5,
    norm_bias=True,
    qkv_bias=True,
    out_bias=True,
    ff_bias=True,
    tied_head=False,
    positions="rotary",
    rotary_dim=80,
)


def _openflamingo(name: str, decoder: DecoderConfig, every: int) -> FlamingoConfig:
    xattn = replace(OPENFLAMINGO_XATTN, every=every, ff_width=4 * decoder.width)
    return FlamingoConfig(
        name, VITS["ViT-L-14"], CLIP_PIXELS, OPENFLAMINGO_RESAMPLER, xattn, decoder, OPENFLAMINGO_TOKENS
    )


# -------------------------------------------------------------------------------------------------------------- IDEFICS

IDEFICS_TOKENS = TokenConfig(
    image_is_token=True,
    around_image="<fake_token_around_image>",
    end_of_chunk="\n",
    stop=("</s>", "<0x0A>"),
)
IDEFICS_PIXELS = PreprocessConfig(size=224, fit="squash")


def _llama(layers: int, width: int, heads: int, ff_width: int) -> DecoderConfig:
    return DecoderConfig(
        vocabulary=32_002,
        layers=layers,
        width=width,
        heads=heads,
        kv_heads=heads,
        ff_width=ff_width,
        activation="silu",
        gated_ff=True,
        norm_eps=1e-6,
        tied_head=False,
        positions="rotary",
        rotary_dim=128,
    )


def _idefics(name: str, decoder: DecoderConfig) -> FlamingoConfig:
    vision = replace(VITS["ViT-H-14"], class_token=True)
    resampler = ResamplerConfig(
        width=1280, ff_width=5120, activation="relu", frames=0, project_input=False, qk_norm=True
    )
    xattn = XattnConfig(
        every=4,
        heads=decoder.heads,
        head_dim=decoder.head_dim,
        ff_width=decoder.ff_width,
        activation="silu",
        gated_ff=True,
        norm="rmsnorm",
        norm_visual=False,
        qk_norm="rmsnorm",
        gate="vector",
        norm_eps=1e-6,
    )
    return FlamingoConfig(name, vision, IDEFICS_PIXELS, resampler, xattn, decoder, IDEFICS_TOKENS)


PRESETS: dict[str, FlamingoConfig] = {
    config.name: config
    for config in (
        TINY,
        TINY_POOLED,
        TINY_ALL_PICTURES,
        BASE,
        _flamingo("flamingo-3b", layers=24, width=2048, heads=16, every=1),
        _flamingo("flamingo-9b", layers=40, width=4096, heads=32, every=4),
        _flamingo("flamingo-80b", layers=80, width=8192, heads=64, every=7),
        _openflamingo("openflamingo-3b", MPT_1B, every=1),
        _openflamingo("openflamingo-4b", REDPAJAMA_3B, every=2),
        _openflamingo("openflamingo-9b", MPT_7B, every=4),
        _idefics("idefics-9b", _llama(layers=32, width=4096, heads=32, ff_width=11_008)),
        _idefics("idefics-80b", _llama(layers=80, width=8192, heads=64, ff_width=22_016)),
    )
}


def preset(name: str) -> FlamingoConfig:
    """The named configuration. Raises CheckpointError with the nearest name."""
    if name not in PRESETS:
        raise CheckpointError(f"unknown preset '{name}'. {did_you_mean(name, PRESETS)} Presets: {', '.join(PRESETS)}.")
    return PRESETS[name]
