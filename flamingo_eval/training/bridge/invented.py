"""Invented parts for `--smoke`: a random LLaMA of 4 layers and a random CLIP, in the form of `build`."""

from __future__ import annotations

from pathlib import Path

from tokenizers import Tokenizer as FastTokenizer
from tokenizers import decoders, models, pre_tokenizers

from flamingo_eval.models.checkpoint import save_flamingo
from flamingo_eval.models.config import (
    DecoderConfig,
    FlamingoConfig,
    PreprocessConfig,
    ResamplerConfig,
    TokenConfig,
    ViTConfig,
    XattnConfig,
)
from flamingo_eval.models.initialise import new_flamingo

IMAGE, END_OF_CHUNK = "<image>", "<|endofchunk|>"
WIDTH, LAYERS = 64, 4


def invented_config(vocabulary: int) -> FlamingoConfig:
    """Shapes of the parts, small enough for seconds."""
    heads = WIDTH // 16
    return FlamingoConfig(
        "invented",
        ViTConfig(image_size=32, patch=8, width=WIDTH, layers=2, heads=heads, ff_width=2 * WIDTH),
        PreprocessConfig(size=32, fit="crop"),
        ResamplerConfig(
            width=WIDTH, layers=1, heads=heads, head_dim=16, latents=8, ff_width=2 * WIDTH, project_input=False
        ),
        XattnConfig(every=2, heads=heads, head_dim=16, ff_width=2 * WIDTH),
        DecoderConfig(
            vocabulary=vocabulary,
            layers=LAYERS,
            width=WIDTH,
            heads=heads,
            kv_heads=heads // 2,
            head_dim=16,
            ff_width=2 * WIDTH,
            context=1024,
            activation="silu",
            gated_ff=True,
            positions="rotary",
            rotary_dim=16,
        ),
        TokenConfig(IMAGE, True, "", END_OF_CHUNK, (END_OF_CHUNK,), trained_from=256),
    )


def write_invented(folder: Path, seed: int) -> Path:
    """The folder; created from the seed if it does not exist."""
    if not folder.is_dir():
        fast = _byte_tokenizer()
        config = invented_config(fast.get_vocab_size())
        save_flamingo(folder, config, new_flamingo(config, seed).state_dict(), fast.to_str(), "# invented\n")
    return folder


def _byte_tokenizer() -> FastTokenizer:
    """One token per byte, then the two of a bridge."""
    vocabulary = {symbol: id for id, symbol in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    fast = FastTokenizer(models.BPE(vocabulary, []))
    fast.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    fast.decoder = decoders.ByteLevel()
    fast.add_special_tokens([END_OF_CHUNK, IMAGE])
    return fast
