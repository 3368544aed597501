"""A model folder of transformers: checks its files and reads its kind, without loading weights."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from flamingo_eval.errors import CheckpointError, MissingDependency
from flamingo_eval.files import read_json_object, sha256_file

INSTALL = "pip install 'flamingo-eval[hf]'"
PROCESSOR_FILES = ("processor_config.json", "preprocessor_config.json")
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "tekken.json")
TEXT_FILES = ("*.json", "*.jinja", "*.txt", "*.model")  # of the files that decide outputs, except the weights
WEIGHTS = "*.safetensors"
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
_SNAPSHOT = re.compile(r"[0-9a-f]{40}")
_DULL_NAMES = ("model", "checkpoint", "final", "snapshot", "weights")


@dataclass(frozen=True)
class ModelFolder:
    """A folder with configuration, processor and safetensors weights of a model whose code is in transformers."""

    path: Path
    config: Mapping[str, Any]

    @property
    def model_type(self) -> str:
        """The family's name in transformers."""
        return str(self.config["model_type"])

    @property
    def name(self) -> str:
        """Its name in tables: the folder's name, or the Hub's."""
        path = self.path.resolve()
        if _SNAPSHOT.fullmatch(path.name) and path.parent.name == "snapshots":
            return path.parent.parent.name.split("--")[-1]
        if path.name.lower() in _DULL_NAMES and path.parent.name:
            return path.parent.name
        return path.name

    @property
    def has_chat_template(self) -> bool:
        """Whether it can read turns."""
        if any((self.path / name).is_file() for name in ("chat_template.jinja", "chat_template.json")):
            return True
        if (self.path / "additional_chat_templates").is_dir():
            return True
        files = ("processor_config.json", "tokenizer_config.json")
        return any(
            bool(read_json_object(self.path / f, CheckpointError).get("chat_template"))
            for f in files
            if (self.path / f).is_file()
        )

    @cached_property
    def digests(self) -> dict[str, str]:
        """sha256 of every file that decides outputs, by name."""
        files = sorted({f for pattern in (*TEXT_FILES, WEIGHTS) for f in self.path.glob(pattern)})
        return {f.name: sha256_file(f) for f in files}


def open_folder(target: str) -> ModelFolder:
    """Find and check the folder of a model. A name with one slash that is not a folder is downloaded from the Hub.

    Raises MissingDependency and CheckpointError.
    """
    require_transformers()
    path = Path(target)
    if not path.is_dir():
        if path.exists() or not _HUB_NAME.fullmatch(target) or target.startswith((".", "~")) or path.parent.is_dir():
            raise CheckpointError(
                f"hf:{target}: there is no such folder.",
                fix="Give a folder with config.json, or a name on the Hub, such as hf:Qwen/Qwen2.5-VL-3B-Instruct.",
            )
        path = _fetched(target)
    config_path = path / "config.json"
    if not config_path.is_file():
        raise CheckpointError(
            f"{path}: config.json is missing: this is not a model of transformers.",
            fix="Give a folder written by `save_pretrained` or downloaded from the Hub.",
        )
    config = read_json_object(config_path, CheckpointError)
    _check_family(path, config)
    if not any((path / name).is_file() for name in PROCESSOR_FILES):
        raise CheckpointError(
            f"{path}: no processor: neither {' nor '.join(PROCESSOR_FILES)} is there.",
            fix="Copy the processor's and tokenizer's files from the original model into the folder.",
        )
    if not any((path / name).is_file() for name in TOKENIZER_FILES):
        raise CheckpointError(
            f"{path}: no tokenizer: none of {', '.join(TOKENIZER_FILES)} is there.",
            fix="Copy the tokenizer's files from the original model into the folder.",
        )
    if not any(path.glob(WEIGHTS)):
        pickle_file = next((f.name for pattern in ("*.bin", "*.pt", "*.pth") for f in path.glob(pattern)), "")
        reason = f"its weights are in {pickle_file}, which may contain code" if pickle_file else "there are no weights"
        raise CheckpointError(
            f"{path}: {reason}; only safetensors are read.", fix="Save the model with `safe_serialization=True`."
        )
    return ModelFolder(path, config)


def require_transformers() -> None:
    """Raise MissingDependency unless a recent transformers is installed."""
    from importlib import metadata

    try:
        version = metadata.version("transformers")
    except metadata.PackageNotFoundError as error:
        raise MissingDependency("hf: needs transformers.", fix=INSTALL) from error
    if int(version.split(".")[0]) < 5:
        raise MissingDependency(f"hf: needs transformers 5.19 or newer, got {version}.", fix=f"{INSTALL} -U")


def _check_family(path: Path, config: Mapping[str, Any]) -> None:
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES as KNOWN

    family = config.get("model_type")
    if family in KNOWN:
        return
    if "auto_map" in config:
        raise CheckpointError(
            f"{path}: this model contains its own code (auto_map in config.json), which is never run.",
            fix="Use a version of the model whose family transformers implements itself, often named `...-hf`.",
        )
    if family is None and "decoder" in config:
        raise CheckpointError(
            f"{path}: this is a checkpoint of flamingo-eval itself.", fix=f"Leave hf: out: --model {path}"
        )
    import transformers

    raise CheckpointError(
        f"{path}: model_type {family!r} is not a vision-language family of transformers {transformers.__version__}.",
        fix="Use a vision-language model, or a newer transformers.",
    )


def _fetched(name: str) -> Path:
    """The Hub's snapshot of a model by name, from the local cache if complete."""
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise MissingDependency("hf:NAME needs huggingface_hub.", fix=INSTALL) from error
    patterns = [*TEXT_FILES, WEIGHTS]
    try:
        return Path(snapshot_download(name, allow_patterns=patterns))
    except Exception as error:  # many kinds of errors without a common class: no network, unknown name, gated
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CheckpointError(
            f"hf:{name}: there is no such folder, and it cannot be loaded from the Hub: {reason}.",
            fix="Check the name, log in with `hf auth login` if it is gated, or give a local folder.",
        ) from error
