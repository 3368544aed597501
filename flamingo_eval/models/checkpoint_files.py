"""The files of a checkpoint folder and their digest. No tensor is read here and PyTorch is not imported."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from flamingo_eval.config.settings import cache_dir
from flamingo_eval.errors import CheckpointError
from flamingo_eval.models.config_json import read_json

CONFIG, WEIGHTS, INDEX, TOKENIZER, CARD = (
    "config.json",
    "model.safetensors",
    "model.safetensors.index.json",
    "tokenizer.json",
    "README.md",
)
REMEMBERED_FROM = 256 * 2**20  # bytes; hashing a smaller checkpoint takes a fraction of a second


def checkpoint_files(folder: Path) -> list[Path]:
    """Every file that decides what the model computes. Raises CheckpointError if one is missing."""
    weights: dict[Path, None] = {folder / WEIGHTS: None}
    if (folder / INDEX).is_file():
        weights = {folder / str(name): None for name in read_json(folder / INDEX).get("weight_map", {}).values()}
    files = [folder / CONFIG, folder / TOKENIZER, *weights]
    for path in files:
        if not path.is_file():
            raise CheckpointError(f"{path}: there is no such file.")
    return files


def checkpoint_sha256(folder: Path) -> str:
    """sha256 (hex) over the names and bytes of everything that decides what the model computes.

    The digest of a large checkpoint is stored in the cache folder, by path, size and modification time of its files.
    Raises CheckpointError if a file is missing or cannot be read.
    """
    files = checkpoint_files(folder)
    try:
        stats = [path.stat() for path in files]
        if sum(stat.st_size for stat in stats) < REMEMBERED_FROM:
            return _digest(files)
        state = [[str(p.resolve()), s.st_size, s.st_mtime_ns] for p, s in zip(files, stats, strict=True)]
        key = hashlib.sha256(json.dumps(state).encode()).hexdigest()
        remembered = cache_dir() / "checkpoints" / key
        digest = _remembered(remembered)
        if digest is None:
            digest = _digest(files)
            _remember(remembered, digest)
        return digest
    except OSError as error:
        raise CheckpointError(f"{folder}: cannot be read: {error.strerror}.") from error


def _digest(files: Sequence[Path]) -> str:
    total = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            total.update(f"{path.name}:{hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return total.hexdigest()


def _remembered(path: Path) -> str | None:
    try:
        digest = path.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return None
    return digest if len(digest) == 64 and set(digest) <= set("0123456789abcdef") else None


def _remember(path: Path, digest: str) -> None:
    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(digest + "\n", encoding="ascii")
        part.replace(path)
    except OSError:  # full or read-only cache: the next command computes the hash again
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
