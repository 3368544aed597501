"""A two-block, 32-wide Flamingo and its tokenizer, with open gates so that pictures matter."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer as FastTokenizer
from tokenizers import decoders, models, pre_tokenizers, processors

from flamingo_eval.api import Model
from flamingo_eval.models.checkpoint import save_flamingo
from flamingo_eval.models.config import (
    DecoderConfig,
    FlamingoConfig,
    NFNetConfig,
    PreprocessConfig,
    ResamplerConfig,
    TokenConfig,
    XattnConfig,
)
from flamingo_eval.models.flamingo import Flamingo
from flamingo_eval.models.initialise import new_flamingo
from flamingo_eval.records import Pixels

torch.set_num_threads(1)

SMALL = FlamingoConfig(
    "small",
    vision=NFNetConfig(
        image_size=16,
        depths=(1, 1),
        widths=(8, 16),
        stem="space_to_depth",
        stem_width=8,
        group_width=8,
        bottleneck=1.0,
        final_width=0,
    ),
    preprocess=PreprocessConfig(size=16),
    resampler=ResamplerConfig(width=24, layers=1, heads=2, head_dim=8, latents=3, ff_width=32, frames=4),
    xattn=XattnConfig(heads=2, head_dim=8, ff_width=32),
    decoder=DecoderConfig(vocabulary=258, layers=2, width=32, heads=4, kv_heads=4, head_dim=8, ff_width=64, context=64),
    tokens=TokenConfig(image_is_token=True),
)


def byte_tokenizer(*special: str, begin: str = "") -> FastTokenizer:
    """One token per byte (ids 0 to 255), then the special ones."""
    vocabulary = {symbol: id for id, symbol in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    fast = FastTokenizer(models.BPE(vocabulary, []))
    fast.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    fast.decoder = decoders.ByteLevel()
    fast.add_special_tokens([*special])
    if begin:
        fast.post_processor = processors.TemplateProcessing(
            single=f"{begin} $A", special_tokens=[(begin, fast.token_to_id(begin))]
        )
    return fast


def open_gates(flamingo: Flamingo, seed: int = 1) -> Flamingo:
    """Random weights everywhere, gates and branch gains included, large enough for pictures to change the answer."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in flamingo.named_parameters():
            if parameter.ndim > 1:
                parameter.normal_(0.0, 0.2, generator=generator)
            elif name.endswith(("gate", "branch_gain")):
                parameter.fill_(0.7)
    return flamingo.requires_grad_(False).eval()


def save_small(folder: Path, config: FlamingoConfig = SMALL, seed: int = 1) -> Path:
    """A checkpoint folder of a small model with random weights."""
    flamingo = open_gates(new_flamingo(config, seed), seed)
    tokenizer = byte_tokenizer("<image>", "<EOC>")
    save_flamingo(folder, config, flamingo.state_dict(), tokenizer.to_str(), "# small\n")
    return folder


def small_model(folder: Path, **decoder: Any) -> Model:
    """A small model with changes to its decoder, loaded from a folder."""
    changed = dataclasses.replace(SMALL.decoder, **decoder)
    return Model.load(save_small(folder, dataclasses.replace(SMALL, decoder=changed)))


def picture(seed: int, size: int = 16, frames: int = 0) -> Pixels:
    """Random pixels of one picture, or of a clip."""
    shape = (frames, 3, size, size) if frames else (3, size, size)
    return Pixels(torch.randn(shape, generator=torch.Generator().manual_seed(seed)))
