"""The cache on disk under visual tokens and RICES features: tensors by content key, in safetensors files.

A file contains the rows of one or more keys. It is written under a temporary name and renamed, so several processes may
share a folder. Its digest covers keys, values and namespace, so a truncated, damaged or misplaced file is detected.
Reading a file renews its time: `trim` deletes the least recently used files.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

KEY_BYTES = 32
SUFFIX = ".safetensors"
_PART = ".part"  # being written
_ABANDONED_S = 86_400  # a temporary file this old belongs to a killed process

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Shard:
    """The contents of one file: N keys of 32 bytes, and one row per key."""

    keys: tuple[bytes, ...]
    values: Tensor  # [N, ...]


class DiskStore:
    """Files by name below a folder, all of one namespace: everything that decides the values except the keys."""

    def __init__(self, folder: Path, namespace: str) -> None:
        self.folder, self.namespace = folder, namespace
        self.damaged = 0  # files that were dropped

    def path(self, name: str) -> Path:
        """The path of the file of that name, in one of 256 subfolders if names are hexadecimal."""
        return self.folder / name[:2] / (name + SUFFIX)

    def __contains__(self, name: str) -> bool:
        return self.path(name).is_file()

    def names(self) -> Iterator[str]:
        """Names of all files, sorted."""
        return (path.stem for path in sorted(self.folder.glob(f"??/*{SUFFIX}")))

    def read(self, name: str, *, verify: bool = True, touch: bool = True) -> Shard | None:
        """The rows in a file; None if it does not exist, or was damaged and is now deleted.

        `verify=False` skips the digest, for a file that this process has verified before; `touch=False` does not count
        as use. Raises OSError for a file that cannot be read.
        """
        path = self.path(name)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        shard = self._unpacked(data, verify)
        if shard is None:
            self.drop(name)
            return None
        if touch:
            with contextlib.suppress(OSError):  # trimmed by another process, or in a read-only folder
                os.utime(path)
        return shard

    def write(self, name: str, keys: Sequence[bytes], values: Tensor) -> int:
        """Write the rows of keys, values [N, ...] on the CPU; the bytes written. Raises OSError, leaving no part."""
        values = values.contiguous()
        digest = _digest(self.namespace, keys, values)
        rows = torch.frombuffer(bytearray(b"".join(keys)), dtype=torch.uint8).view(len(keys), KEY_BYTES)
        data = save({"keys": rows, "values": values}, {"sha256": digest})
        path = self.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=_PART, delete=False) as file:
            part = Path(file.name)
            try:
                file.write(data)
                file.close()
                os.replace(part, path)
            except OSError:
                with contextlib.suppress(OSError):
                    part.unlink(missing_ok=True)
                raise
        return len(data)

    def drop(self, name: str) -> None:
        """Delete a damaged file."""
        self.damaged += 1
        log.warning("%s: deleted a damaged cache file; its values are computed again", name)
        self.path(name).unlink(missing_ok=True)

    def _unpacked(self, data: bytes, verify: bool) -> Shard | None:
        try:
            tensors = load(data)
            rows, values = tensors["keys"], tensors["values"]
            keys = tuple(row.tobytes() for row in rows.numpy())
            if not verify:
                return Shard(keys, values)
            header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
            digest = header["__metadata__"]["sha256"]
        except (SafetensorError, ValueError, KeyError, TypeError):
            return None
        return Shard(keys, values) if digest == _digest(self.namespace, keys, values) else None


def trim(root: Path, limit: int, keep: float = 1.0) -> int:
    """If the files below a folder exceed `limit` bytes, delete the least recently used ones. -> the remaining bytes

    Deletes until at most `keep` x `limit` bytes remain. A process that needs a deleted file computes it again.
    """
    files = []
    for path in root.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # trimmed by another process
            stat = path.stat()
            if path.suffix == _PART:
                if time.time() - stat.st_mtime > _ABANDONED_S:
                    path.unlink(missing_ok=True)
            elif path.is_file():
                files.append((stat.st_mtime_ns, stat.st_size, path))
    total_bytes = sum(size for _, size, _ in files)
    if total_bytes <= limit:
        return total_bytes
    for _, size, path in sorted(files):
        if total_bytes <= limit * keep:
            break
        path.unlink(missing_ok=True)
        total_bytes -= size
    return total_bytes


def _digest(namespace: str, keys: Sequence[bytes], values: Tensor) -> str:
    """Digest of a file's contents; values are hashed in place."""
    digest = hashlib.sha256(json.dumps([namespace, len(keys), str(values.dtype), list(values.shape)]).encode())
    digest.update(b"".join(keys))
    digest.update(values.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
