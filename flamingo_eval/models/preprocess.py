"""Pictures -> normalised pixels, by Pillow on 8-bit RGB (tensor-based bicubic is off by a grey level).

Shapes: T frames, 3 colours, `size` x `size` pixels.
"""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image as PillowImage
from torch import Tensor

from flamingo_eval.errors import MediaError
from flamingo_eval.media import open_image, open_video
from flamingo_eval.models.config import PreprocessConfig
from flamingo_eval.records import Image, Pixels, Video

_RESAMPLE = {"bicubic": PillowImage.Resampling.BICUBIC, "bilinear": PillowImage.Resampling.BILINEAR}


def media_pixels(media: Image | Video | Pixels, config: PreprocessConfig) -> Tensor:
    """Open a picture or clip; given pixels pass as they are. -> float32[T, 3, size, size]

    Raises MediaError, also for pixels of a wrong shape.
    """
    if isinstance(media, Image):
        return picture_pixels(open_image(media), config)[None]
    if isinstance(media, Video):
        frames = open_video(media, config.frames, config.fps, config.longer)
        return torch.stack([picture_pixels(frame, config) for frame in frames])
    pixels = media.tensor[None] if media.tensor.ndim == 3 else media.tensor
    if pixels.ndim != 4 or pixels.shape[1:] != (3, config.size, config.size) or not len(pixels):
        wanted = f"[3, {config.size}, {config.size}], or [T, 3, {config.size}, {config.size}] for a video"
        raise MediaError(f"pixels of shape {list(media.tensor.shape)}: this model reads {wanted}.")
    return pixels


def picture_pixels(picture: PillowImage.Image, config: PreprocessConfig) -> Tensor:
    """Fit an RGB picture into the square and normalise it. -> float32[3, size, size]"""
    fitted = {"pad": _pad, "crop": _crop, "squash": _squash}[config.fit](picture, config)
    values = torch.from_numpy(np.asarray(fitted, dtype=np.float32) / 255).permute(2, 0, 1)
    mean, std = (torch.tensor(v, dtype=torch.float32)[:, None, None] for v in (config.mean, config.std))
    return ((values - mean) / std).contiguous()


def _pad(picture: PillowImage.Image, config: PreprocessConfig) -> PillowImage.Image:
    """Longer side to `size`; the rest is the mean colour, the picture in the middle (Flamingo v2 B.1.2)."""
    scale = config.size / max(picture.size)
    width, height = (max(1, round(side * scale)) for side in picture.size)
    square = PillowImage.new("RGB", (config.size, config.size), tuple(round(255 * m) for m in config.mean))
    resized = picture.resize((width, height), _RESAMPLE[config.resample])
    square.paste(resized, ((config.size - width) // 2, (config.size - height) // 2))
    return square


def _crop(picture: PillowImage.Image, config: PreprocessConfig) -> PillowImage.Image:
    """Shorter side to `size`, then its middle, cut as torchvision cuts (CLIP)."""
    short, long = min(picture.size), max(picture.size)
    longer = int(config.size * long / short)
    size = (config.size, longer) if picture.width <= picture.height else (longer, config.size)
    resized = picture if short == config.size else picture.resize(size, _RESAMPLE[config.resample])
    left, top = (round((side - config.size) / 2) for side in resized.size)
    return resized.crop((left, top, left + config.size, top + config.size))


def _squash(picture: PillowImage.Image, config: PreprocessConfig) -> PillowImage.Image:
    """Both sides to `size`, whatever that does to the aspect ratio (IDEFICS)."""
    return picture.resize((config.size, config.size), _RESAMPLE[config.resample])
