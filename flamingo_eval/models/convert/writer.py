"""Writes a converted checkpoint one tensor at a time, so that only one of them is in memory."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from flamingo_eval.errors import UsageError
from flamingo_eval.models.checkpoint import CARD, CONFIG, TOKENIZER, WEIGHTS, write_index
from flamingo_eval.models.config import FlamingoConfig
from flamingo_eval.models.config_json import write_config
from flamingo_eval.models.convert.tensor_map import Recipe

MAX_SHARD = 5_000_000_000  # bytes
_NAMES = {torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """A folder that appears under its name only when it is complete. Raises UsageError if the name is taken."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out}: exists and is not empty.", fix="Give another --out, or remove it.")
    unfinished = out.with_name(f".{out.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    try:
        yield unfinished
        if out.exists():
            out.rmdir()
        unfinished.rename(out)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def write_checkpoint(
    folder: Path, config: FlamingoConfig, recipes: Mapping[str, Recipe], tokenizer_json: str, card: str
) -> None:
    """Write all files of a checkpoint folder, weights in shards of at most MAX_SHARD bytes."""
    shards = _shards(recipes)
    if len(shards) == 1:
        write_safetensors(folder / WEIGHTS, recipes)
    else:
        files: dict[str, str] = {}
        for i, names in enumerate(shards, 1):
            file = f"model-{i:05d}-of-{len(shards):05d}.safetensors"
            write_safetensors(folder / file, {name: recipes[name] for name in names})
            files |= dict.fromkeys(names, file)
        write_index(folder, files)
    write_config(config, folder / CONFIG)
    (folder / TOKENIZER).write_text(tokenizer_json, encoding="utf-8")
    (folder / CARD).write_text(card, encoding="utf-8")


def write_safetensors(path: Path, recipes: Mapping[str, Recipe]) -> None:
    """The safetensors format: length of the header (8 bytes), JSON header, then the tensors' bytes in a row."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, recipe in recipes.items():
        begin, end = end, end + _bytes(recipe)
        header[name] = {"dtype": _NAMES[recipe.dtype], "shape": list(recipe.shape), "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little"))
        file.write(text)
        for recipe in recipes.values():
            made = recipe.make().to(recipe.dtype).contiguous()
            file.write(made.view(-1).view(torch.uint8).numpy().data)


def _shards(recipes: Mapping[str, Recipe]) -> Sequence[Sequence[str]]:
    shards: list[list[str]] = [[]]
    size = 0
    for name, recipe in recipes.items():
        if shards[-1] and size + _bytes(recipe) > MAX_SHARD:
            shards.append([])
            size = 0
        shards[-1].append(name)
        size += _bytes(recipe)
    return shards


def _bytes(recipe: Recipe) -> int:
    return torch.Size(recipe.shape).numel() * recipe.dtype.itemsize
