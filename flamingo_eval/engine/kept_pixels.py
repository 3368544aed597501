"""Pixels of pictures that were opened for one purpose and will be shown later: kept, so that each is decoded once."""

from __future__ import annotations

import logging
import tempfile
from typing import IO

import numpy as np
import torch
from torch import Tensor

from flamingo_eval.config.settings import cache_dir

LIMIT_BYTES = 20 * 2**30

log = logging.getLogger(__name__)


class KeptPixels:
    """Pixels (uint8, of any shape) by content hash, in a file without a name that ends with the process.

    Beyond `limit_bytes`, or where nothing can be written, pictures are not kept: they are decoded again.
    """

    def __init__(self, limit_bytes: int = LIMIT_BYTES) -> None:
        self.limit_bytes = limit_bytes
        self._file: IO[bytes] | None = None
        self._places: dict[str, tuple[int, tuple[int, ...]]] = {}  # offset and shape
        self._end = 0

    def __contains__(self, key: str) -> bool:
        return key in self._places

    def put(self, key: str, pixels: Tensor) -> None:
        """Keep the pixels of a picture."""
        if key in self._places or self._end + pixels.nbytes > self.limit_bytes:
            return
        try:
            if self._file is None:
                cache_dir().mkdir(parents=True, exist_ok=True)
                self._file = tempfile.TemporaryFile(dir=cache_dir())  # noqa: SIM115 - closed by close()
            self._file.seek(self._end)
            self._file.write(pixels.numpy().tobytes())
        except OSError as error:
            log.warning("%s: opened pictures cannot be kept (%s); they are decoded again", cache_dir(), error.strerror)
            self.limit_bytes = 0
            return
        self._places[key] = self._end, tuple(pixels.shape)
        self._end += pixels.nbytes

    def take(self, key: str) -> Tensor | None:
        """The pixels of a picture, which are no longer kept; None if they are not there."""
        pixels = self.read(key)
        self.forget(key)
        return pixels

    def forget(self, key: str) -> None:
        """Keep the pixels of a picture no longer, if they are there."""
        if self._places.pop(key, None) is not None and not self._places:
            self._end = 0

    def read(self, key: str) -> Tensor | None:
        """The pixels of a picture, which stay kept; None if they are not there."""
        place = self._places.get(key)
        if place is None or self._file is None:
            return None
        offset, shape = place
        try:
            self._file.seek(offset)
            data = self._file.read(int(np.prod(shape)))
        except OSError:
            return None
        return torch.from_numpy(np.frombuffer(data, np.uint8).reshape(shape).copy())

    def close(self) -> None:
        """Drop everything."""
        self._places.clear()
        self._end = 0
        if self._file is not None:
            self._file.close()
            self._file = None
