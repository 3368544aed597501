"""The network of the paper, its checkpoints and their tokenizers. api.load_model loads one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from flamingo_eval.errors import CheckpointError, did_you_mean

if TYPE_CHECKING:
    from flamingo_eval.models.config import FlamingoConfig
    from flamingo_eval.models.tokenizer import Tokenizer

__all__ = ["model_folder", "model_names", "read_shape"]

TINY_FOLDER = Path(__file__).parent.parent / "sample" / "tiny"


def model_names() -> list[str]:
    """Names that `load_model` accepts besides folders."""
    return ["tiny"]


def read_shape(name_or_dir: str | Path) -> tuple[FlamingoConfig, Tokenizer]:
    """Configuration and tokenizer of a model, without its weights. Raises CheckpointError."""
    from flamingo_eval.models.checkpoint_files import CONFIG, TOKENIZER
    from flamingo_eval.models.config_json import read_config
    from flamingo_eval.models.tokenizer import Tokenizer  # a finished run is printed without it

    folder = model_folder(name_or_dir)
    config = read_config(folder / CONFIG)
    return config, Tokenizer.load(folder / TOKENIZER, config.tokens, config.decoder.vocabulary)


def model_folder(name_or_dir: str | Path) -> Path:
    """The folder of a model by name or path. Raises CheckpointError."""
    folder = TINY_FOLDER if name_or_dir == "tiny" else Path(name_or_dir)
    if name_or_dir == "tiny" and not folder.is_dir():
        raise CheckpointError(
            f"{folder}: the tiny checkpoint is missing from this installation.", fix="Train it: `flamingo-eval train`."
        )
    if not folder.is_dir():
        from flamingo_eval.models.presets import PRESETS  # for the hint alone

        presets = ", ".join(n for n in PRESETS if n != "tiny")
        shape = str(name_or_dir) in PRESETS
        hint = did_you_mean(str(name_or_dir), ("tiny", *PRESETS))
        raise CheckpointError(
            f"{name_or_dir} is an architecture preset without weights."
            if shape
            else f"{name_or_dir}: there is no such folder. {hint}".rstrip(),
            fix=f"Models: tiny, or a folder made by `flamingo-eval convert`. Presets without weights: {presets}.",
        )
    return folder
