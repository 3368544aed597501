"""Every architectural choice of a Flamingo, as frozen specs; config.json of a checkpoint folder is a FlamingoConfig.

Defaults are the Flamingo paper's (Alayrac et al. 2022, v2: section 2, appendix A.1 and B.1) where it gives a value.
Named models are rows of presets.py. `absent`: the value of a choice in a config.json written before the choice existed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

Activation = Literal["gelu", "gelu_tanh", "quick_gelu", "relu", "squared_relu", "silu"]
Norm = Literal["layernorm", "rmsnorm"]
Positions = Literal["relative", "rotary", "alibi", "learned"]

# ------------------------------------------------------------------------------------------------------ vision encoders


@dataclass(frozen=True, slots=True)
class NFNetConfig:
    """A normaliser-free residual network (Brock et al. 2021), F6 by default; F0 to F5 have 1/7 to 6/7 of its depths."""

    kind: Literal["nfnet"] = "nfnet"
    image_size: int = 320
    depths: tuple[int, ...] = (7, 14, 42, 21)
    widths: tuple[int, ...] = (256, 512, 1536, 1536)
    stem: Literal["convolutions", "space_to_depth"] = "convolutions"  # four 3x3 convolutions, or 4x4 pixels folded
    stem_width: int = 128
    first_stride: int = 1  # of the first stage; every later stage halves the grid
    group_width: int = 128  # channels a group of the 3x3 convolutions
    bottleneck: float = 0.5  # inner width of a block / its output width
    squeeze: float = 0.5  # inner width of squeeze-and-excite / block width
    final_width: int = 3072  # of the 1x1 convolution after the last stage; 0: none
    alpha: float = 0.2  # growth of the residual branch
    activation: Literal["gelu", "relu", "silu"] = "gelu"

    @property
    def width(self) -> int:
        """Channels of one position of the grid that leaves the network."""
        return self.final_width or self.widths[-1]

    @property
    def positions(self) -> int:
        """Grid positions of one picture: 100 at 320 pixels with the published strides (32 in all)."""
        side = math.ceil(math.ceil(self.image_size / 4) / self.first_stride)
        for _ in self.widths[1:]:
            side = math.ceil(side / 2)
        return side * side


@dataclass(frozen=True, slots=True)
class ViTConfig:
    """CLIP's vision transformer (Radford et al. 2021), L/14 by default; by its options SigLIP's (Zhai et al. 2023)."""

    kind: Literal["vit"] = "vit"
    image_size: int = 224
    patch: int = 14
    width: int = 1024
    layers: int = 24
    heads: int = 16
    ff_width: int = 4096
    activation: Activation = "quick_gelu"
    norm_eps: float = 1e-5
    has_class_token: bool = field(
        default=True, metadata={"absent": True}
    )  # one token more than there are patches (SigLIP has none)
    patch_bias: bool = field(default=False, metadata={"absent": False})  # of the patch embedding (SigLIP)
    norm_in: bool = field(default=True, metadata={"absent": True})  # LayerNorm before the first block (SigLIP has none)
    class_token: bool = False  # output the class token, before the patches (IDEFICS does, OpenFlamingo drops it)
    final_norm: bool = False  # apply the last LayerNorm to the output (SigLIP only)

    @property
    def positions(self) -> int:
        """Number of tokens of one picture in the output."""
        side = self.image_size // self.patch
        return side * side + int(self.class_token)


VisionConfig = NFNetConfig | ViTConfig


@dataclass(frozen=True, slots=True)
class PreprocessConfig:
    """How a picture becomes pixels, and how a clip becomes pictures.

    `pad`: longer side to `size`, padded to a square with the mean value (Flamingo v2 B.1.2). `crop`: shorter side to
    `size`, centre of it (CLIP). `squash`: both sides to `size` (IDEFICS). Resizing is Pillow's on 8-bit RGB.
    """

    size: int = 320
    fit: Literal["pad", "crop", "squash"] = "pad"
    resample: Literal["bicubic", "bilinear"] = "bicubic"
    mean: tuple[float, ...] = (0.48145466, 0.4578275, 0.40821073)
    std: tuple[float, ...] = (0.26862954, 0.26130258, 0.27577711)
    frames: int = 30  # of a clip, at most (v2 B.1.2; training: 8 at 1 FPS)
    fps: float = 3.0
    longer: Literal["centre", "start", "spread"] = (
        "centre"  # for clips longer than frames / fps; the paper does not say
    )


LARGEST_SIZE = 2**24  # of anything that a network is made of; products of larger ones overflow


# -------------------------------------------------------------------------------------------- from pictures to the text


@dataclass(frozen=True, slots=True)
class ResamplerConfig:
    """The Perceiver Resampler: any number of visual features -> `latents` tokens (Flamingo v2 A.1.1)."""

    kind: Literal["perceiver"] = field(default="perceiver", metadata={"absent": "perceiver"})
    width: int = 1536
    layers: int = 6
    heads: int = 16
    head_dim: int = 96  # v2 A.1.4; v1 table 13 says 128
    latents: int = 64
    ff_width: int = 6144
    activation: Activation = "squared_relu"
    frames: int = 8  # learned time embeddings; 0: frames of a clip are not distinguished
    grid: int = 0  # learned embeddings of grid positions, for a tiny encoder; the paper has none (v2 A.1.1)
    project_input: bool = True  # linear map from the encoder's width; False: the widths are equal
    qk_norm: bool = False  # LayerNorm on each head's queries and keys (IDEFICS)
    norm_eps: float = 1e-5


@dataclass(frozen=True, slots=True)
class PoolingConfig:
    """Replaces the Resampler to measure its effect: averages over fields of the encoder's grid, and over frames."""

    kind: Literal["pooling"] = "pooling"
    side: int = 3  # fields a side: 9 tokens a picture


@dataclass(frozen=True, slots=True)
class XattnConfig:
    """The gated cross-attention blocks between the frozen ones (Flamingo v2 section 2.2)."""

    every: int = 1
    sees: Literal["last", "all"] = field(
        default="last", metadata={"absent": "last"}
    )  # which of the pictures before a token (v2 2.3 compares: the last one)
    placement: Literal["first", "last"] = "first"  # before block 0, n, 2n, ... (paper, IDEFICS) or n-1, 2n-1, ...
    heads: int = 16
    head_dim: int = 128
    ff_width: int = 8192
    activation: Activation = "squared_relu"
    gated_ff: bool = False  # LLaMA's feed-forward with a gate (IDEFICS)
    norm: Norm = "layernorm"
    norm_visual: bool = True  # the visual features are normalised too (v1 3.1.2); OpenFlamingo and IDEFICS do not
    qk_norm: Norm | None = None  # on each head's queries and keys (IDEFICS: rmsnorm)
    gate: Literal["scalar", "vector"] = "scalar"
    norm_eps: float = 1e-5
    keeps_text: bool = field(
        default=False, metadata={"absent": False}
    )  # tokens that see no picture pass unchanged; in the paper the gated feed-forward part acts on them too

    def before(self, block: int) -> bool:
        """Whether there is a gated block before that block of the language model (0-based)."""
        return block % self.every == (0 if self.placement == "first" else self.every - 1)


# ------------------------------------------------------------------------------------------------------------- language


@dataclass(frozen=True, slots=True)
class RotaryScaling:
    """Rotary positions stretched to a longer context than the model was first trained with.

    `linear`: every frequency divided by `factor`. `llama3` (Dubey et al. 2024): frequencies with fewer than `low` turns
    in `context` tokens are divided, those with more than `high` kept, and those between interpolated.
    """

    kind: Literal["linear", "llama3"] = "llama3"
    factor: float = 8.0
    low: float = 1.0
    high: float = 4.0
    context: int = 8192


@dataclass(frozen=True, slots=True)
class DecoderConfig:
    """A causal language model; the defaults are Chinchilla's family at 1.4B (Gopher: RMSNorm, relative positions)."""

    vocabulary: int = 32_001
    layers: int = 24
    width: int = 2048
    heads: int = 16
    kv_heads: int = 16  # fewer than heads: grouped-query attention
    head_dim: int = 128
    ff_width: int = 8192
    context: int = 2048  # tokens it was trained with; a hard limit with learned positions
    activation: Activation = "gelu"
    gated_ff: bool = False
    norm: Norm = "rmsnorm"
    norm_eps: float = 1e-6
    norm_bias: bool = False  # of LayerNorm; RMSNorm has none
    final_norm: bool = True
    parallel: bool = False  # attention and feed-forward side by side (GPT-J, GPT-NeoX)
    shared_norm: bool = False  # ... after the same norm (GPT-J)
    qkv_bias: bool = False
    out_bias: bool = False
    ff_bias: bool = False
    tied_head: bool = True
    head_bias: bool = False
    head_rows: int | None = None  # tokens from this id on have no row in the head and cannot be generated
    logit_scale: float = 1.0
    attention_scale: float | None = None  # None: 1 / sqrt(head_dim)
    qk_norm: bool = False  # LayerNorm over all heads' queries, and keys, together (MPT's qk_ln)
    head_norm: bool = field(
        default=False, metadata={"absent": False}
    )  # RMSNorm on each head's queries and keys (Qwen3)
    clip_qkv: float | None = None
    positions: Positions = "relative"
    position_offset: int = 0  # learned: rows before the first position (OPT: 2)
    rotary_dim: int = 0  # leading dimensions of each head that are rotated
    rotary_base: float = 10_000.0
    rotary_scaling: RotaryScaling | None = field(default=None, metadata={"absent": None})
    rotary_pairs: Literal["halves", "neighbours"] = "halves"  # x[i] with x[i + rotary_dim/2], or x[2i] with x[2i + 1]
    alibi_max: float = 8.0
    short_conv: int = 0  # taps of a causal depthwise convolution on the attention's input: what a tiny model needs to
    # match content (an induction head in one layer); off in every real family


# ---------------------------------------------------------------------------------------------------------------- whole


@dataclass(frozen=True, slots=True)
class TokenConfig:
    """How media and the end of a demonstration are written in the text. The tokenizer adds the begin token itself."""

    image: str = "<image>"
    image_is_token: bool = False  # the tag is one token; the paper writes it as plain text (v1 3.2.1)
    around_image: str = ""  # before and after each run of images (IDEFICS: <fake_token_around_image>)
    end_of_chunk: str = "<EOC>"
    stop: tuple[str, ...] = ("<EOC>",)  # tokens that end generation
    # rows of embedding and head from this id on are trained with a bridge; None: none
    trained_from: int | None = field(default=None, metadata={"absent": None})
    clean_up_spaces: bool = False  # decode " ," as ",", like older Hugging Face tokenizers


@dataclass(frozen=True, slots=True)
class EncoderConfig:
    """A vision encoder alone, as the stage `contrastive` writes it and `build` takes it."""

    name: str
    vision: VisionConfig
    preprocess: PreprocessConfig


@dataclass(frozen=True, slots=True)
class FlamingoConfig:
    """A whole model. `resampler` is None if the decoder attends to the encoder's own output."""

    name: str
    vision: VisionConfig = field(default_factory=NFNetConfig)
    preprocess: PreprocessConfig = field(default_factory=PreprocessConfig)
    resampler: ResamplerConfig | PoolingConfig | None = field(default_factory=ResamplerConfig)
    xattn: XattnConfig = field(default_factory=XattnConfig)
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    tokens: TokenConfig = field(default_factory=TokenConfig)

    @property
    def visual_width(self) -> int:
        """Width of the tokens that cross-attention reads."""
        return self.resampler.width if isinstance(self.resampler, ResamplerConfig) else self.vision.width

    @property
    def visual_tokens(self) -> int:
        """Tokens that cross-attention reads of one picture."""
        if isinstance(self.resampler, PoolingConfig):
            return self.resampler.side**2
        return self.resampler.latents if self.resampler else self.vision.positions

    @property
    def xattn_blocks(self) -> tuple[int, ...]:
        """Blocks of the language model that have a gated block before them."""
        return tuple(i for i in range(self.decoder.layers) if self.xattn.before(i))
