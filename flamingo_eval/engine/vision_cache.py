"""Visual tokens of pictures, computed once: in memory, and on disk for later runs.

A picture's tokens depend on the encoder, its preprocessing, the number format and the picture's bytes alone, so shots,
seeds, tasks and runs share them. `namespace` stands for all but the bytes.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import tempfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

MEMORY_BYTES = 512 * 2**20
DISK_BYTES = 20 * 2**30
_MAGIC = b"flamingo-eval visual tokens 1\n"
_PART = ".part"  # what is being written

log = logging.getLogger(__name__)


class VisionCache:
    """Visual tokens by content hash: the most recent ones in memory, all of them below `folder` (None: memory only).

    Several processes may share a folder: files are written under another name and renamed. A file that is cut, damaged
    or not of this namespace is removed and its picture encoded again. Beyond `disk_bytes` the files that were read
    longest ago are deleted.
    """

    def __init__(
        self,
        namespace: str,
        folder: Path | None = None,
        memory_bytes: int = MEMORY_BYTES,
        disk_bytes: int = DISK_BYTES,
    ) -> None:
        self.namespace = namespace
        self.folder = None if folder is None else folder / hashlib.sha256(namespace.encode()).hexdigest()[:16]
        self.memory_bytes, self.disk_bytes = memory_bytes, disk_bytes
        self.hits_memory = self.hits_disk = self.misses = self.damaged = 0
        self._memory: OrderedDict[str, Tensor] = OrderedDict()
        self._used = 0
        self._on_disk: int | None = None  # bytes, counted at the first write

    def get(self, key: str) -> Tensor | None:
        """The tokens of a picture, [L, R] on the CPU, or None: then encode it and `put` it. Counted."""
        found = self._memory.get(key)
        if found is not None:
            self._memory.move_to_end(key)
            self.hits_memory += 1
            return found
        found = self._read(key)
        if found is None:
            self.misses += 1
            return None
        self.hits_disk += 1
        self._remember(key, found)
        return found

    def __contains__(self, key: str) -> bool:
        """Whether `get` would probably find it; not counted, and no file is read."""
        return key in self._memory or (self.folder is not None and self._path(key).is_file())

    def put(self, key: str, tokens: Tensor) -> None:
        """Remember the tokens of a picture, [L, R]."""
        tokens = tokens.detach().cpu().contiguous()
        self._remember(key, tokens)
        if self.folder is not None:
            self._write(self.folder, key, tokens)

    @property
    def stats(self) -> dict[str, float | int]:
        """Hits, misses, and the share of hits among all that was asked for."""
        asked = self.hits_memory + self.hits_disk + self.misses
        return {
            "hits_memory": self.hits_memory,
            "hits_disk": self.hits_disk,
            "misses": self.misses,
            "damaged": self.damaged,
            "hit_rate": round((asked - self.misses) / asked, 6) if asked else 0.0,
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

    def _path(self, key: str) -> Path:
        assert self.folder is not None
        return self.folder / key[:2] / key

    def _read(self, key: str) -> Tensor | None:
        if self.folder is None:
            return None
        path = self._path(key)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            log.warning("%s: cannot be read (%s), the picture is encoded again", path.name, error.strerror)
            return None
        tokens = self._unpacked(key, data)
        if tokens is None:
            self.damaged += 1
            log.warning("%s: a file of the vision cache is damaged, the picture is encoded again", path.name)
            path.unlink(missing_ok=True)
            return None
        with contextlib.suppress(FileNotFoundError):  # another process may just have trimmed it away
            os.utime(path)
        return tokens

    def _write(self, folder: Path, key: str, tokens: Tensor) -> None:
        data = self._packed(key, tokens)
        path, part = self._path(key), None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=path.parent, suffix=_PART, delete=False) as file:
                part = Path(file.name)
                file.write(data)
            os.replace(part, path)
        except OSError as error:
            if part is not None:
                with contextlib.suppress(OSError):
                    part.unlink(missing_ok=True)
            log.warning("the vision cache %s cannot be written (%s), memory alone is used", folder, error.strerror)
            self.folder = None
            return
        self._trim(folder, len(data))

    def _trim(self, folder: Path, added: int) -> None:
        if self._on_disk is None:
            self._on_disk = sum(size for _, size, _ in _files(folder))
        else:
            self._on_disk += added
        if self._on_disk <= self.disk_bytes:
            return
        files = _files(folder)
        self._on_disk = sum(size for _, size, _ in files)
        for _, size, path in sorted(files):
            if self._on_disk <= self.disk_bytes * 0.8:
                break
            path.unlink(missing_ok=True)
            self._on_disk -= size

    def _header(self, key: str, tokens_dtype: str, shape: list[int], values: bytes) -> bytes:
        digest = hashlib.sha256(values).hexdigest()
        fields = {"namespace": self.namespace, "key": key, "dtype": tokens_dtype, "shape": shape, "sha256": digest}
        return _MAGIC + json.dumps(fields).encode() + b"\n"

    def _packed(self, key: str, tokens: Tensor) -> bytes:
        values = tokens.view(torch.uint8).numpy().tobytes()
        return self._header(key, str(tokens.dtype).removeprefix("torch."), list(tokens.shape), values) + values

    def _unpacked(self, key: str, data: bytes) -> Tensor | None:
        """The tokens in a file, None if it is not exactly what `_packed` would have written for them."""
        end = data.find(b"\n", len(_MAGIC))
        if not data.startswith(_MAGIC) or end < 0:
            return None
        values = data[end + 1 :]
        try:
            fields = json.loads(data[len(_MAGIC) : end])
            header = self._header(key, fields["dtype"], fields["shape"], values)
        except (ValueError, KeyError, TypeError):
            return None
        if header != data[: end + 1]:
            return None
        flat = torch.from_numpy(np.frombuffer(values, np.uint8).copy())
        return flat.view(getattr(torch, fields["dtype"])).view(fields["shape"])


def _files(folder: Path) -> list[tuple[int, int, Path]]:
    """Time of the last reading, size and path of every file that is whole."""
    files = []
    for path in folder.glob("??/*"):
        if path.suffix == _PART:
            continue
        with contextlib.suppress(FileNotFoundError):  # another process trims too
            stat = path.stat()
            files.append((stat.st_mtime_ns, stat.st_size, path))
    return files
