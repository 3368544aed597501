"""Pictures opened ahead of the model in worker processes; they may finish in any order."""

from __future__ import annotations

import logging
import multiprocessing
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from types import TracebackType

import numpy as np
import torch
from torch import Tensor

from flamingo_eval.models.config import PreprocessConfig
from flamingo_eval.models.preprocess import fitted_pixels, media_pixels, normalised
from flamingo_eval.records import Image, Media, Video

log = logging.getLogger(__name__)

AHEAD_PER_WORKER = 8  # opened pictures that wait for the model: limits memory, whatever the number of queries


class PictureLoader:
    """Opens media in `workers` processes, or in the calling process if there are none; the pixels are the same.

    Processes are spawned, never forked: a fork of a process whose libraries run threads can deadlock. They start with
    the first picture and end with `close`.
    """

    def __init__(self, config: PreprocessConfig, workers: int = 0) -> None:
        self.config, self.workers = config, workers
        self._pool: ProcessPoolExecutor | None = None
        self._wanted: dict[Media, None] = {}  # in the order requested; not started
        self._opened: dict[Media, Future[np.ndarray]] = {}  # started or done

    @property
    def room(self) -> int:
        """Number of pictures that may be open ahead of the model."""
        return self.workers * AHEAD_PER_WORKER

    def ahead(self, media: Media) -> None:
        """Request a picture: open it as soon as there is room. Does nothing without workers."""
        if self.workers and media not in self._opened:
            self._wanted[media] = None
            self._begin()

    def forget(self, media: Media) -> None:
        """Drop a request of `ahead`: the picture is not needed."""
        future = self._taken(media)
        if future is not None:
            future.cancel()

    def pixels(self, media: Media) -> Tensor:
        """A picture's or clip's pixels, float32[T, 3, size, size]. Raises MediaError."""
        future = self._taken(media)
        if future is None:
            return media_pixels(media, self.config)
        try:
            return normalised(torch.from_numpy(future.result()), self.config)
        except BrokenProcessPool:
            self._give_up()
            return media_pixels(media, self.config)

    def close(self) -> None:
        """End the worker processes and drop their unfinished work."""
        self._wanted.clear()
        self._opened.clear()
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None

    def _begin(self) -> None:
        while self._wanted and len(self._opened) < self.room:
            media = next(iter(self._wanted))
            del self._wanted[media]
            try:
                self._opened[media] = self._started().submit(_open, media, self.config)
            except BrokenProcessPool:
                self._give_up()

    def _taken(self, media: Media) -> Future[np.ndarray] | None:
        self._wanted.pop(media, None)
        future = self._opened.pop(media, None)
        self._begin()
        return future

    def _give_up(self) -> None:
        log.warning("a worker process that opens pictures died; pictures are opened in the main process from now on")
        self.workers = 0
        self._wanted.clear()
        self._opened.clear()

    def __enter__(self) -> PictureLoader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _started(self) -> ProcessPoolExecutor:
        if self._pool is None:
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(self.workers, context, initializer=_one_thread)
        return self._pool


def _one_thread() -> None:
    torch.set_num_threads(1)


def _open(media: Image | Video, config: PreprocessConfig) -> np.ndarray:
    pixels: np.ndarray = fitted_pixels(media, config).numpy()  # bytes: a quarter of the data to send
    return pixels
