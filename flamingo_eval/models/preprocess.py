"""Pictures -> normalised pixels, by Pillow on 8-bit RGB (tensor-based bicubic is off by a grey level).

Shapes: T frames, 3 colours, `size` x `size` pixels.
"""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image as PillowImage
from torch import Tensor

from flamingo_eval.data.images import open_image
from flamingo_eval.data.videos import open_video
from flamingo_eval.errors import MediaError
from flamingo_eval.models.config import PreprocessConfig
from flamingo_eval.records import Image, Pixels, Video

_RESAMPLE = {"bicubic": PillowImage.Resampling.BICUBIC, "bilinear": PillowImage.Resampling.BILINEAR}


def media_pixels(media: Image | Video | Pixels, config: PreprocessConfig) -> Tensor:
    """Open a picture or clip; Pixels are returned unchanged. -> float32[T, 3, size, size]

    Raises MediaError, also for pixels of a wrong shape.
    """
    if not isinstance(media, Pixels):
        return normalised(fitted_pixels(media, config), config)
    pixels = media.tensor[None] if media.tensor.ndim == 3 else media.tensor
    if pixels.ndim != 4 or pixels.shape[1:] != (3, config.size, config.size) or not len(pixels):
        expected_shape = f"[3, {config.size}, {config.size}], or [T, 3, {config.size}, {config.size}] for a video"
        raise MediaError(f"pixels of shape {list(media.tensor.shape)}: this model expects {expected_shape}.")
    return pixels


def fitted_pixels(media: Image | Video, config: PreprocessConfig) -> Tensor:
    """Open a picture or clip and fit it into the square. -> uint8[T, 3, size, size]. Raises MediaError."""
    if isinstance(media, Image):
        frames = [open_image(media)]
    else:
        frames = list(open_video(media, config.frames, config.fps, config.longer))
    return torch.stack([fitted(frame, config) for frame in frames])


def fitted(picture: PillowImage.Image, config: PreprocessConfig) -> Tensor:
    """An RGB picture in the square. -> uint8[3, size, size]"""
    square = {"pad": _pad, "crop": _crop, "squash": _squash}[config.fit](picture, config)
    return torch.from_numpy(np.array(square)).permute(2, 0, 1).contiguous()


def normalised(pictures: Tensor, config: PreprocessConfig) -> Tensor:
    """uint8[..., 3, size, size] -> float32, each colour by the mean and deviation the encoder was trained with"""
    mean, std = (
        torch.tensor(v, dtype=torch.float32, device=pictures.device)[:, None, None] for v in (config.mean, config.std)
    )
    return (pictures.float() / 255 - mean) / std


def _pad(picture: PillowImage.Image, config: PreprocessConfig) -> PillowImage.Image:
    """Longer side to `size`; the rest is the mean colour, the picture in the middle (Flamingo v2 B.1.2)."""
    scale = config.size / max(picture.size)
    width, height = (max(1, round(side * scale)) for side in picture.size)
    square = PillowImage.new("RGB", (config.size, config.size), tuple(round(255 * m) for m in config.mean))
    resized = picture.resize((width, height), _RESAMPLE[config.resample])
    square.paste(resized, ((config.size - width) // 2, (config.size - height) // 2))
    return square


def _crop(picture: PillowImage.Image, config: PreprocessConfig) -> PillowImage.Image:
    """Shorter side to `size`, then a centre crop as in torchvision (CLIP)."""
    short_edge, long = min(picture.size), max(picture.size)
    long_edge = int(config.size * long / short_edge)
    size = (config.size, long_edge) if picture.width <= picture.height else (long_edge, config.size)
    resized = picture if short_edge == config.size else picture.resize(size, _RESAMPLE[config.resample])
    left, top = (round((side - config.size) / 2) for side in resized.size)
    return resized.crop((left, top, left + config.size, top + config.size))


def _squash(picture: PillowImage.Image, config: PreprocessConfig) -> PillowImage.Image:
    """Both sides to `size`, ignoring the aspect ratio (IDEFICS)."""
    return picture.resize((config.size, config.size), _RESAMPLE[config.resample])
