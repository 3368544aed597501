"""What every data set yields: texts, pictures and end-of-chunk marks in reading order; and broken samples."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Literal, Protocol, TypeAlias

import torch
from torch import Tensor

from flamingo_eval.data.images import decode_image, open_image
from flamingo_eval.data.videos import open_video
from flamingo_eval.errors import MediaError
from flamingo_eval.models.config import PreprocessConfig
from flamingo_eval.models.preprocess import fitted
from flamingo_eval.records import EndOfChunk, Image, Video

Cut = Literal["end", "window", "chunks"]


@dataclass(frozen=True, slots=True)
class Text:
    """A piece of text; `learned`: whether its tokens count in the loss."""

    text: str
    learned: bool = True


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """A picture as a clip of one frame, or a clip: uint8[T, 3, size, size]."""

    pixels: Tensor


Part: TypeAlias = Text | Picture | EndOfChunk


@dataclass(frozen=True, slots=True)
class Sample:
    """One training sequence before it is tokenised.

    `cut` says what is dropped if it has too many tokens or pictures: its end (pairs), all but a random window
    (documents, Flamingo v2 A.3.1), or its first demonstrations (episodes).
    """

    parts: tuple[Part, ...]
    cut: Cut = "end"
    next_picture: float = 0.0  # probability that its text sees the next picture instead of the last one (v2 A.3.1)


class BrokenSample(Exception):  # noqa: N818 - a state of the data, not a failure of the program
    """A sample that cannot be used; it is skipped and counted."""


@dataclass(frozen=True, slots=True)
class Look:
    """How pictures and clips become pixels of the model's size; clips by the paper's training rate (v2 B.1.2)."""

    preprocess: PreprocessConfig
    frames: int = 8
    fps: float = 1.0

    def picture(self, source: Image | bytes, name: str = "") -> Picture:
        """A picture from a file, or from its bytes (`name` is for messages). Raises MediaError."""
        opened = decode_image(source, name) if isinstance(source, bytes) else open_image(source)
        return Picture(fitted(opened, self.preprocess)[None])

    def clip(self, video: Video) -> Picture:
        """A clip from a file. Raises MediaError."""
        frames = open_video(video, self.frames, self.fps, self.preprocess.longer)
        return Picture(torch.stack([fitted(frame, self.preprocess) for frame in frames]))

    def clip_bytes(self, content: bytes, name: str) -> Picture:
        """A clip from the bytes of its file, which the decoder reads from a temporary file. Raises MediaError."""
        with tempfile.NamedTemporaryFile(suffix=Path(name).suffix) as file:
            file.write(content)
            file.flush()
            try:
                return self.clip(Video(file.name))
            except MediaError as error:
                raise MediaError(str(error).replace(file.name, name)) from error


Load = Callable[[Look, Random], Sample]


@dataclass(frozen=True, slots=True)
class Raw:
    """A sample that is not opened yet: its place in the data for messages, and the function that opens it.

    `load` raises BrokenSample and MediaError; its Random is the sample's own.
    """

    name: str
    load: Load


class Reader(Protocol):
    """The files of one data set. The order of the samples of a shard never changes."""

    @property
    def shards(self) -> tuple[str, ...]:
        """Names of the shards, for messages."""

    def read(self, shard: int, start: int) -> Iterator[Raw]:
        """The samples of a shard in its own order, from the `start`-th on. Raises DataError for a damaged file."""


def caption_text(content: bytes) -> str:
    """A caption's bytes as text. Raises BrokenSample if it is not UTF-8 or empty."""
    try:
        text = content.decode("utf-8-sig").strip()
    except UnicodeDecodeError as error:
        raise BrokenSample(f"the caption is not UTF-8 (byte {error.start})") from error
    if not text:
        raise BrokenSample("the caption is empty")
    return text
