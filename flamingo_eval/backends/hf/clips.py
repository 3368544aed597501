"""Clips for families with a video processor: frames with their times, shown as one video each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Clip:
    """`frames` uint8[T, H, W, 3], each from the middle of an equal part of the clip's `seconds`."""

    frames: NDArray[np.uint8]
    seconds: float

    @property
    def metadata(self) -> dict[str, Any]:
        """What transformers wants to know: as if every second of 2 T frames had been taken, which gives their times."""
        n, height, width = self.frames.shape[:3]
        return {
            "total_num_frames": 2 * n, "fps": 2 * n / self.seconds, "duration": self.seconds,
            "frames_indices": [2 * i + 1 for i in range(n)], "height": height, "width": width,
        }  # fmt: skip


def blank_clip(frames: int, width: int = 8, height: int = 8) -> Clip:
    """A grey clip of a second per frame."""
    return Clip(np.full((frames, height, width, 3), 128, np.uint8), float(frames))


def video_inputs(clips: Sequence[Clip]) -> dict[str, Any]:
    """The processor's arguments for a prompt's clips: all their frames, nothing is sampled again."""
    if not clips:
        return {}
    options = {"do_sample_frames": False, "return_metadata": True, "video_metadata": [c.metadata for c in clips]}
    return {"videos": [c.frames for c in clips], "videos_kwargs": options}
