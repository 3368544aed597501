"""What the benchmarks run on: real shapes with random weights, made-up questions about made-up pictures.

Nothing here is about quality. Answers are noise, but noise that takes a real model's time, and that two implementations
with the same weights must agree about.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image as PillowImage
from tokenizers import Tokenizer as FastTokenizer
from tokenizers import decoders, pre_tokenizers
from tokenizers.models import WordLevel

from flamingo_eval.models.config import DecoderConfig, FlamingoConfig
from flamingo_eval.models.flamingo import Flamingo
from flamingo_eval.models.presets import (
    CLIP_PIXELS,
    OPENFLAMINGO_RESAMPLER,
    OPENFLAMINGO_TOKENS,
    OPENFLAMINGO_XATTN,
    VITS,
)
from flamingo_eval.records import END_OF_CHUNK, Image, Part, Prompt

VOCABULARY = 50_272  # OPT's
SPECIAL = ("<pad>", "<unk>", "<|endofchunk|>", "<image>")

OPT_125M = DecoderConfig(
    vocabulary=VOCABULARY,
    layers=12,
    width=768,
    heads=12,
    kv_heads=12,
    head_dim=64,
    ff_width=3072,
    activation="relu",
    norm="layernorm",
    norm_eps=1e-5,
    norm_bias=True,
    qkv_bias=True,
    out_bias=True,
    ff_bias=True,
    positions="learned",
    position_offset=2,
)

# OpenFlamingo's Resampler and cross-attention, in front of every block, at the widths of ViT-B/32 and OPT-125m
SMALL = FlamingoConfig(
    "ViT-B/32 + OPT-125m",
    vision=VITS["ViT-B-32"],
    preprocess=CLIP_PIXELS,
    resampler=replace(OPENFLAMINGO_RESAMPLER, width=768, ff_width=3072),
    xattn=replace(OPENFLAMINGO_XATTN, every=1, ff_width=3072),
    decoder=OPT_125M,
    tokens=OPENFLAMINGO_TOKENS,
)


@dataclass(frozen=True, slots=True)
class Row:
    """A question about a picture, and its answer."""

    picture: Path
    question: str
    answer: str


def words(n: int, key: str) -> str:
    """Text of n tokens, the same for the same key."""
    return " ".join(f"w{random.Random(f'{key}:{i}').randrange(20_000)}" for i in range(n))


def word_tokenizer() -> FastTokenizer:
    """One token a word, 50,272 of them: as many rows in the output layer as OPT has, without any download."""
    listed = [*SPECIAL, *(f"w{i}" for i in range(VOCABULARY - len(SPECIAL)))]
    fast = FastTokenizer(WordLevel({word: i for i, word in enumerate(listed)}, unk_token="<unk>"))
    fast.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast.decoder = decoders.WordPiece(prefix="##", cleanup=False)
    fast.add_special_tokens(list(SPECIAL))
    return fast


def make_rows(folder: Path, n: int, seed: int = 0) -> list[Row]:
    """n rows with a JPEG of 640 x 480 each; questions of 11 tokens, answers of 2: 15 a shot with its two tags."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for i in range(n):
        path = folder / f"{seed}-{i}.jpg"
        if not path.is_file():
            coarse = np.random.default_rng([seed, i]).integers(0, 255, (12, 16, 3), np.uint8)
            PillowImage.fromarray(coarse).resize((640, 480), PillowImage.Resampling.BICUBIC).save(path)
        rows.append(Row(path, words(11, f"q{seed}:{i}"), words(2, f"a{seed}:{i}")))
    return rows


def prompt_of(query: Row, shots: list[Row], id: str) -> Prompt:
    """<image> question answer <|endofchunk|> ... <image> question"""
    parts: list[Part] = []
    for shot in shots:
        parts += [Image(shot.picture), f" {shot.question} {shot.answer} ", END_OF_CHUNK]
    return Prompt([*parts, Image(query.picture), f" {query.question}"], id)


def randomised(config: FlamingoConfig, seed: int = 0) -> Flamingo:
    """A Flamingo with random weights and open gates."""
    generator = torch.Generator().manual_seed(seed)
    flamingo = Flamingo(config)
    with torch.no_grad():
        for name, parameter in flamingo.named_parameters():
            if name.endswith("gate"):
                parameter.fill_(0.5)
            elif parameter.ndim > 1:
                parameter.normal_(0.0, 0.02, generator=generator)
    return flamingo.requires_grad_(False).eval()
