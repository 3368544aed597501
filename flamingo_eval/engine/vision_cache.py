"""Visual tokens of pictures, computed once: in memory, and on disk for later runs.

A picture's tokens depend only on the encoder, its preprocessing, the number format and the picture's bytes, so shots,
seeds, tasks and runs share them. `namespace` identifies all but the bytes.
"""

from __future__ import annotations

import hashlib
import logging
from collections import OrderedDict
from pathlib import Path

from torch import Tensor

from flamingo_eval.data.disk_store import DiskStore, trim

MEMORY_BYTES = 512 * 2**20
DISK_BYTES = 20 * 2**30
KEEP = 0.8  # share of the limit that remains after a clean-up: a full cache is not searched at every write

log = logging.getLogger(__name__)


class VisionCache:
    """Visual tokens by content hash: the most recent ones in memory, all of them below `folder` (None: memory only).

    Several processes may share a folder. A picture whose file is truncated, damaged or of another namespace is encoded
    again. Above `disk_bytes`, for all namespaces together, the least recently used files are deleted.
    """

    def __init__(
        self,
        namespace: str,
        folder: Path | None = None,
        memory_bytes: int = MEMORY_BYTES,
        disk_bytes: int = DISK_BYTES,
    ) -> None:
        self.namespace = namespace
        self.root = folder
        own = hashlib.sha256(namespace.encode()).hexdigest()[:16]
        self._disk = None if folder is None else DiskStore(folder / own, namespace)
        self.memory_bytes, self.disk_bytes = memory_bytes, disk_bytes
        self.hits_memory = self.hits_disk = self.misses = self.damaged = 0
        self._memory: OrderedDict[str, Tensor] = OrderedDict()
        self._used = 0
        self._on_disk: int | None = None  # bytes, counted at the first write

    def get(self, key: str) -> Tensor | None:
        """The tokens of a picture, [L, R] on the CPU; None if they are not cached. Counts a hit or a miss."""
        tokens = self._memory.get(key)
        if tokens is not None:
            self._memory.move_to_end(key)
            self.hits_memory += 1
            return tokens
        tokens = self._read(key)
        if tokens is None:
            self.misses += 1
            return None
        self.hits_disk += 1
        self._remember(key, tokens)
        return tokens

    def __contains__(self, key: str) -> bool:
        """Whether `get` would probably find the picture; counts nothing and reads no file."""
        return key in self._memory or (self._disk is not None and key in self._disk)

    def put(self, key: str, tokens: Tensor) -> None:
        """Store the tokens of a picture, [L, R]."""
        tokens = tokens.detach().cpu().contiguous()
        self._remember(key, tokens)
        self._write(key, tokens)

    @property
    def folder(self) -> Path | None:
        """Folder of this namespace's files; None if only memory is used."""
        return None if self._disk is None else self._disk.folder

    @property
    def stats(self) -> dict[str, float | int]:
        """Hits, misses, and the share of hits among all look-ups."""
        lookups = self.hits_memory + self.hits_disk + self.misses
        return {
            "hits_memory": self.hits_memory,
            "hits_disk": self.hits_disk,
            "misses": self.misses,
            "damaged": self.damaged,
            "hit_rate": round((lookups - self.misses) / lookups, 6) if lookups else 0.0,
        }

    # ---------------------------------------------------------------------------------------------------- memory

    def _remember(self, key: str, tokens: Tensor) -> None:
        old = self._memory.pop(key, None)
        self._used += tokens.nbytes - (0 if old is None else old.nbytes)
        self._memory[key] = tokens
        while self._used > self.memory_bytes and len(self._memory) > 1:
            _, oldest = self._memory.popitem(last=False)
            self._used -= oldest.nbytes

    # ------------------------------------------------------------------------------------------------------ disk

    def _read(self, key: str) -> Tensor | None:
        if self._disk is None:
            return None
        try:
            shard = self._disk.read(key)
        except OSError as error:
            log.warning("%s: cannot be read (%s); the picture is encoded again", key, error.strerror)
            return None
        if shard is not None and shard.keys != (
            bytes.fromhex(key),
        ):  # a renamed file: undamaged, but of another picture
            self._disk.drop(key)
            shard = None
        self.damaged = self._disk.damaged
        return None if shard is None else shard.values[0]

    def _write(self, key: str, tokens: Tensor) -> None:
        if self._disk is None or self.root is None:
            return
        try:
            added = self._disk.write(key, [bytes.fromhex(key)], tokens[None])
        except OSError as error:
            log.warning("%s: the vision cache cannot be written (%s); memory alone is used", self.root, error.strerror)
            self._disk = None
            return
        if self._on_disk is None or self._on_disk + added > self.disk_bytes:
            self._on_disk = trim(self.root, self.disk_bytes, KEEP)
        else:
            self._on_disk += added
