"""RICES features on disk: one float16 vector per picture or text, in shards that are searched block by block."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from safetensors import SafetensorError

from flamingo_eval.config.settings import cache_error
from flamingo_eval.data.disk_store import DiskStore

if TYPE_CHECKING:
    from numpy.typing import NDArray

SEARCH_ROWS = 65_536  # rows of the support set in memory at a time during a search


class FeatureStore:
    """Vectors by key, in append-only shards of a `DiskStore`; several processes may compute the same vector."""

    def __init__(self, folder: Path, namespace: str = "") -> None:
        self._disk = DiskStore(folder, namespace)
        self._where: dict[bytes, tuple[str, int]] = {}  # shard and row
        for name in self._disk.names():
            shard = self._disk.read(name, touch=False)
            if shard is not None:
                self._enter(name, shard.keys)

    def __len__(self) -> int:
        return len(self._where)

    def __contains__(self, key: bytes) -> bool:
        return key in self._where

    def _enter(self, name: str, keys: Sequence[bytes]) -> None:
        for row, key in enumerate(keys):
            self._where.setdefault(key, (name, row))

    def add(self, keys: Sequence[bytes], vectors: NDArray[np.float32]) -> None:
        """Write one shard: vectors float32[N, D], stored as float16. Raises RunError if it cannot be written."""
        name = hashlib.sha256(b"".join(keys)).hexdigest()
        try:
            self._disk.write(name, keys, torch.from_numpy(vectors.astype(np.float16)))
        except (OSError, SafetensorError) as error:
            raise cache_error(self._disk.folder, error) from error
        self._enter(name, keys)

    def blocks(self, keys: Sequence[bytes], rows: int = SEARCH_ROWS) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """The vectors of `keys` in their order, as (first index, float32[<=rows, D]); one block in memory at a time.

        Raises FileNotFoundError if another process has deleted a shard since this store was opened.
        """
        for first in range(0, len(keys), rows):
            block_keys = keys[first : first + rows]
            by_shard: dict[str, list[tuple[int, int]]] = {}
            for i, key in enumerate(block_keys):
                name, row = self._where[key]
                by_shard.setdefault(name, []).append((i, row))
            block: NDArray[np.float32] | None = None
            for name, positions in by_shard.items():
                shard = self._disk.read(name, verify=False)  # verified when the store was opened
                if shard is None:
                    raise FileNotFoundError(self._disk.path(name))
                vectors = shard.values.numpy()
                if block is None:
                    block = np.empty((len(block_keys), vectors.shape[1]), np.float32)
                rows_out, rows_in_shard = zip(*positions, strict=True)
                block[list(rows_out)] = vectors[list(rows_in_shard)]
            if block is not None:
                yield first, block
