"""A Flamingo with its tokenizer, on a device, loaded from a checkpoint folder."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor

from flamingo_eval.errors import UsageError
from flamingo_eval.models.checkpoint import load_flamingo
from flamingo_eval.models.checkpoint_files import TOKENIZER, checkpoint_sha256
from flamingo_eval.models.config import FlamingoConfig
from flamingo_eval.models.flamingo import Flamingo
from flamingo_eval.models.preprocess import media_pixels
from flamingo_eval.models.tokenizer import Encoded, Tokenizer
from flamingo_eval.records import Image, Pixels, Prompt, Video

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class LoadedModel:
    """The network, its tokenizer and its folder: prompts to token ids and visual tokens. api.Model answers."""

    def __init__(self, flamingo: Flamingo, tokenizer: Tokenizer, folder: Path) -> None:
        self.flamingo, self.tokenizer, self.folder = flamingo, tokenizer, folder
        self.config: FlamingoConfig = flamingo.config

    @classmethod
    def load(cls, folder: Path, device: str = "cpu", dtype: str = "float32", mesh: DeviceMesh | None = None) -> Self:
        """Load our checkpoint folder onto a device; with `mesh`, this rank's part of it.

        Raises CheckpointError, UsageError.
        """
        target = choose_device(device)
        kind = choose_dtype(dtype, target)
        if target.type == "cuda":
            torch.backends.cudnn.allow_tf32 = False  # convolutions would otherwise round float32 to 10 bits
        if mesh is None:
            flamingo = load_flamingo(folder, target, kind)
        else:
            from flamingo_eval.models.tensor_parallel import (
                load_parallel,  # torch.distributed is imported only when needed
            )

            flamingo = load_parallel(folder, target, kind, mesh)
        config = flamingo.config
        return cls(flamingo, Tokenizer.load(folder / TOKENIZER, config.tokens, config.decoder.vocabulary), folder)

    # -------------------------------------------------------------------------------------------------- what it is

    @property
    def name(self) -> str:
        """The name in its config.json."""
        return self.config.name

    @property
    def device(self) -> torch.device:
        """Device that holds its weights."""
        return self.flamingo.decoder.embedding.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """Number format of its weights."""
        return self.flamingo.decoder.embedding.weight.dtype

    @property
    def context_length(self) -> int:
        """Tokens it was trained to read at once."""
        return self.config.decoder.context

    @property
    def begin(self) -> str:
        """The begin token that the tokenizer puts before every prompt, "" if none."""
        return self.tokenizer.begin

    @property
    def end_of_chunk(self) -> str:
        """The model's text for the end of a demonstration."""
        return self.config.tokens.end_of_chunk

    @cached_property
    def sha256(self) -> str:
        """Hash of configuration, tokenizer and weights; computed on first use."""
        return checkpoint_sha256(self.folder)

    # ------------------------------------------------------------------------------------------------ what it reads

    def encode(self, prompt: Prompt) -> Encoded:
        """Token ids with the begin token, the picture each token sees, media in order. Raises PromptError."""
        return self.tokenizer.encode(prompt)

    def count_tokens(self, prompt: Prompt) -> int:
        """Tokens of a prompt, begin token included; no picture is opened."""
        return len(self.encode(prompt).ids)

    def pixels(self, media: Image | Video | Pixels) -> Tensor:
        """Preprocessed pixels of a picture or clip. -> float32[T, 3, size, size] on the CPU"""
        return media_pixels(media, self.config.preprocess)

    @torch.inference_mode()
    def features(self, media: Image | Video | Pixels) -> Tensor:
        """The encoder's output for each frame, before the Resampler. -> [T, P, V]"""
        pixels = self.pixels(media).to(self.device, self.dtype)
        return self.flamingo.features(pixels[None])[0]

    @torch.inference_mode()
    def visual_tokens(self, media: Image | Video | Pixels) -> Tensor:
        """Visual tokens of a picture or clip. -> [L, R]"""
        return self.flamingo.visual_tokens(self.features(media)[None])[0]


def choose_device(name: str) -> torch.device:
    """`auto` is CUDA if available, otherwise the CPU. Raises UsageError."""
    cuda = torch.cuda.is_available()
    if name == "auto":
        return torch.device("cuda" if cuda else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"unknown device '{name}'. Devices: auto, cpu, cuda.") from error
    if device.type == "cuda" and not cuda:
        raise UsageError("no usable CUDA device.", fix="Use --device cpu, or see `flamingo-eval doctor`.")
    return device


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """`auto` is bfloat16 on CUDA and float32 elsewhere. Raises UsageError."""
    if name == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    if name not in DTYPES:
        raise UsageError(f"unknown dtype '{name}'. Types: auto, {', '.join(DTYPES)}.")
    return DTYPES[name]
