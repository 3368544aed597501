"""The inputs of the benchmarks: real shapes with random weights, invented questions about invented pictures.

Quality is not measured. Answers are noise, but they take a real model's time, and two implementations with the same
weights must give the same ones.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image as PillowImage
from tokenizers import Tokenizer as FastTokenizer
from tokenizers import decoders, pre_tokenizers
from tokenizers.models import WordLevel

from flamingo_eval.models.config import DecoderConfig, FlamingoConfig
from flamingo_eval.models.presets import (
    CLIP_PIXELS,
    MPT_1B,
    MPT_7B,
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


@dataclass(frozen=True, slots=True)
class Shapes:
    """The shapes of a model: our config, and the arguments of the peer's factory for the same model."""

    config: FlamingoConfig
    vision: str  # open_clip's name
    language: str
    settings: Mapping[str, object]

    @property
    def every(self) -> int:
        """A gated block before every n-th block of the decoder."""
        return self.config.xattn.every


def _openflamingo(name: str, tower: str, decoder: DecoderConfig, every: int) -> FlamingoConfig:
    """OpenFlamingo's Resampler and cross-attention; exact GELU, as in open_clip's own files of these names."""
    vision = replace(VITS[tower], activation="gelu")
    width = vision.width
    return FlamingoConfig(
        name,
        vision=vision,
        preprocess=CLIP_PIXELS,
        resampler=replace(OPENFLAMINGO_RESAMPLER, width=width, ff_width=4 * width),
        xattn=replace(OPENFLAMINGO_XATTN, every=every, ff_width=4 * decoder.width),
        decoder=replace(decoder, vocabulary=VOCABULARY),
        tokens=OPENFLAMINGO_TOKENS,
    )


def _mpt(name: str, decoder: DecoderConfig, every: int) -> Shapes:
    config = _openflamingo(name, "ViT-L-14", decoder, every)
    settings = {"d_model": decoder.width, "n_heads": decoder.heads, "n_layers": decoder.layers}
    return Shapes(config, "ViT-L-14", "mpt", settings | {"max_seq_len": decoder.context, "vocab_size": VOCABULARY})


_OPT_SETTINGS = {"vocab_size": VOCABULARY, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
MODELS = {
    "small": Shapes(
        _openflamingo("ViT-B/32 + OPT-125m", "ViT-B-32", OPT_125M, every=1), "ViT-B-32", "opt", _OPT_SETTINGS
    ),
    # transformers' MPT, which the peer runs on, has no norms of queries and keys; MPT-1B's own code had
    "openflamingo-3b": _mpt("ViT-L/14 + MPT-1B without norms of queries and keys", replace(MPT_1B, qk_norm=False), 1),
    "openflamingo-9b": _mpt("ViT-L/14 + MPT-7B", MPT_7B, 4),
}


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
    """One token per word, 50,272 of them: as many rows in the output layer as OPT, without any download."""
    listed = [*SPECIAL, *(f"w{i}" for i in range(VOCABULARY - len(SPECIAL)))]
    fast = FastTokenizer(WordLevel({word: i for i, word in enumerate(listed)}, unk_token="<unk>"))
    fast.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast.decoder = decoders.WordPiece(prefix="##", cleanup=False)
    fast.add_special_tokens(list(SPECIAL))
    return fast


def save_tokenizer(folder: Path) -> Path:
    """Write the tokenizer as a folder for transformers."""
    folder.mkdir(parents=True, exist_ok=True)
    word_tokenizer().save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "pad_token": "<pad>",
        "unk_token": "<unk>",
        "clean_up_tokenization_spaces": False,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


def make_rows(folder: Path, n: int, seed: int = 0) -> list[Row]:
    """n rows with a JPEG of 640 x 480 each; questions of 11 tokens, answers of 2: 15 per shot with its two tags."""
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
