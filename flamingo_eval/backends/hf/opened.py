"""Pictures and clips, decoded once for all that is made of them: counts of tokens, RICES, answers."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image as PillowImage

from flamingo_eval.backends.hf.clips import Clip
from flamingo_eval.data.media import content_hash, open_image
from flamingo_eval.data.videos import frames_of, spread_frames
from flamingo_eval.engine.kept_pixels import KeptPixels
from flamingo_eval.records import Image, Video


class OpenedPictures:
    """Opens pictures, and clips as `frames` frames spread over them."""

    def __init__(self, frames: int) -> None:
        self.frames = frames
        self.decoded = 0
        self.kept = KeptPixels()
        self._clip: tuple[Video, list[PillowImage.Image]] | None = None  # its frames are asked for one by one
        self._seconds: dict[str, float] = {}

    def get(self, media: Image | Video, frame: int, keep: bool) -> PillowImage.Image:
        """A picture, or a frame of a clip. `keep`: it will be needed again. Raises MediaError."""
        key = f"{content_hash(media)}:{frame}"
        pixels = self.kept.read(key) if keep else self.kept.take(key)
        picture = self._decoded(media, frame) if pixels is None else PillowImage.fromarray(pixels.numpy())
        if keep:
            self.kept.put(key, torch.from_numpy(np.array(picture)))
        return picture

    def clip(self, video: Video) -> Clip:
        """A clip as one video, kept until `forget`. Raises MediaError."""
        key = _whole(video)
        pixels = self.kept.read(key)
        if pixels is None:
            self.decoded += 1
            frames, self._seconds[key] = spread_frames(video, self.frames)
            pixels = torch.from_numpy(np.stack([np.array(frame) for frame in frames]))
            self.kept.put(key, pixels)
        return Clip(pixels.numpy(), self._seconds[key])

    def forget(self, video: Image | Video) -> None:
        """A clip has been encoded: its frames are not needed again."""
        self.kept.forget(_whole(video))

    def _decoded(self, media: Image | Video, frame: int) -> PillowImage.Image:
        if isinstance(media, Image):
            self.decoded += 1
            return open_image(media)
        if self._clip is None or self._clip[0] != media:
            self.decoded += 1
            self._clip = media, frames_of(media, self.frames)
        return self._clip[1][frame]


def _whole(video: Image | Video) -> str:
    return f"{content_hash(video)}:video"
