"""A checkpoint folder <-> a Flamingo: config.json, model.safetensors (or index and shards), tokenizer.json, README.md.

Weights go from the memory-mapped files straight to their device and dtype, one tensor at a time. Every missing tensor,
unexpected tensor and wrong shape is reported, all at once.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.overrides import TorchFunctionMode

from flamingo_eval.errors import CheckpointError, Problem, did_you_mean, problems_in
from flamingo_eval.files import placeholder
from flamingo_eval.models.checkpoint_files import CARD, CONFIG, INDEX, TOKENIZER, WEIGHTS
from flamingo_eval.models.config import FlamingoConfig
from flamingo_eval.models.config_json import read_config, read_json, write_config
from flamingo_eval.models.flamingo import Flamingo

_OS_ERROR = re.compile(r"os error (\d+)")  # in the text of a SafetensorError


@contextmanager
def open_safetensors(path: Path, device: torch.device | None = None) -> Iterator[Any]:
    """A safetensors file, memory-mapped. Raises CheckpointError if it is missing or truncated."""
    if not path.is_file():
        raise CheckpointError(f"{path}: there is no such file.")
    if instead := placeholder(path):
        raise CheckpointError(f"{path}: {instead}")
    try:
        with safe_open(str(path), framework="pt", device=str(device or "cpu")) as file:
            yield file
    except SafetensorError as error:
        raise CheckpointError(
            f"{path}: truncated or damaged safetensors file: {error}.", fix="Copy or download the file again."
        ) from error


def weight_files(folder: Path) -> dict[str, Path]:
    """Which file holds each tensor: one model.safetensors, or the shards of an index. -> name: file"""
    if (folder / INDEX).is_file():
        names: dict[str, str] = read_json(folder / INDEX).get("weight_map", {})
        files = {name: folder / file for name, file in names.items()}
        missing_files = [path for path in dict.fromkeys(files.values()) if not path.is_file()]
        if missing_files:
            raise problems_in(
                folder / INDEX, [Problem(f"shard {p.name} is missing.") for p in missing_files], CheckpointError
            )
        return files
    with open_safetensors(folder / WEIGHTS) as file:
        return dict.fromkeys(file.keys(), folder / WEIGHTS)


class _Unfilled(TorchFunctionMode):
    """Skips random initialisation, which on the meta device imports PyTorch's compiler and takes a second."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", "") == "torch.nn.init":
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        return func(*args, **kwargs)


def load_flamingo(folder: Path, device: torch.device, dtype: torch.dtype) -> Flamingo:
    """The network of a checkpoint folder, on its device, in evaluation mode. Raises CheckpointError."""
    flamingo = meta_flamingo(read_config(folder / CONFIG))
    files = weight_files(folder)
    expected = {name: tensor.shape for name, tensor in flamingo.state_dict().items()}
    check_account(folder, expected, shapes_in(files))
    weights: dict[str, Tensor] = {}
    for path in dict.fromkeys(files.values()):
        with open_safetensors(path, device) as file:
            for name in (n for n, p in files.items() if p == path):
                weights[name] = file.get_tensor(name).to(dtype)
    flamingo.load_state_dict(weights, strict=True, assign=True)
    return flamingo.requires_grad_(False).eval()


def meta_flamingo(config: FlamingoConfig) -> Flamingo:
    """The network without weights, on the meta device."""
    with _Unfilled(), torch.device("meta"):
        return Flamingo(config)


def shapes_in(files: Mapping[str, Path]) -> dict[str, tuple[int, ...]]:
    """The shapes of the named tensors in files of weights."""
    shapes: dict[str, tuple[int, ...]] = {}
    for path in dict.fromkeys(files.values()):
        with open_safetensors(path) as file:
            names = set(file.keys())
            for name in (n for n, p in files.items() if p == path and n in names):
                shapes[name] = tuple(file.get_slice(name).get_shape())
    return shapes


def check_account(
    source: Path | str, expected: Mapping[str, tuple[int, ...]], shapes: Mapping[str, tuple[int, ...]]
) -> None:
    """Raise CheckpointError unless both have the same tensors in the same shapes."""
    problems = [
        Problem(f"missing, expected {list(shape)}.", key=name) for name, shape in expected.items() if name not in shapes
    ]
    problems += [
        Problem(f"unknown tensor {list(shape)}.", key=name, fix=did_you_mean(name, expected) if i < 5 else "")
        for i, (name, shape) in enumerate((n, s) for n, s in shapes.items() if n not in expected)
    ]
    problems += [
        Problem(f"has shape {list(shapes[name])}, expected {list(shape)}.", key=name)
        for name, shape in expected.items()
        if name in shapes and tuple(shapes[name]) != tuple(shape)
    ]
    if problems:
        raise problems_in(source, problems, CheckpointError)


def save_flamingo(
    folder: Path,
    config: FlamingoConfig,
    weights: Mapping[str, Tensor],
    tokenizer_json: str,
    card: str,
) -> None:
    """Write a checkpoint folder with one file of weights. The weights must have the network's names and shapes.

    Raises CheckpointError for other names or shapes, OSError where it cannot be written.
    """
    with torch.device("meta"):
        expected = {name: tensor.shape for name, tensor in Flamingo(config).state_dict().items()}
    check_account(folder, expected, {name: tuple(tensor.shape) for name, tensor in weights.items()})
    folder.mkdir(parents=True, exist_ok=True)
    save_tensors(weights, folder / WEIGHTS)
    write_config(config, folder / CONFIG)
    (folder / TOKENIZER).write_text(tokenizer_json, encoding="utf-8")
    (folder / CARD).write_text(card, encoding="utf-8")


def save_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write tensors as one safetensors file, or none at all. Raises OSError, which safetensors hides in its own."""
    try:
        save_file({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, path)
    except SafetensorError as error:
        path.unlink(missing_ok=True)
        if code := _OS_ERROR.search(str(error)):
            raise OSError(int(code[1]), os.strerror(int(code[1])), str(path)) from error
        raise


def write_index(folder: Path, files: Mapping[str, str]) -> None:
    """Write the index that names the shard of every tensor."""
    (folder / INDEX).write_text(json.dumps({"weight_map": dict(files)}, indent=1) + "\n", encoding="utf-8")
