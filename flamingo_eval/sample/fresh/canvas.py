"""Drawing on a picture, int16[height, width, 3], with integers only, so the pixels are the same on every machine.

No sine, no floating-point interpolation and no font library: these differ in their last digits between processors and
releases, and so would rounded pixels.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from random import Random

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from flamingo_eval.sample.fresh.glyphs import line_of
from flamingo_eval.sample.world.render import tile_of
from flamingo_eval.sample.world.scenes import BACKGROUNDS

Colour = tuple[int, int, int]
Pixels = NDArray[np.int16]
JPEG_QUALITY = 92
ONE = 256  # shares of one are counted in 256ths


def ground(width: int, height: int, colour: Colour, rng: Random) -> Pixels:
    """A background of about this colour, lighter towards one side."""
    jitter = [c + rng.randint(-14, 14) for c in colour]
    light = rng.randint(0, 80) * (np.arange(height, dtype=np.int32) * 2 - height) // (2 * height)
    if rng.random() < 0.5:
        light = -light
    rows = np.array(jitter, np.int32)[None, :] * (ONE + light[:, None]) // ONE
    return np.broadcast_to(rows[:, None, :], (height, width, 3)).astype(np.int16)


def any_ground(side: int, rng: Random) -> Pixels:
    """A square background in one of the sample world's colours."""
    return ground(side, side, rng.choice(BACKGROUNDS), rng)


def add_noise(pixels: Pixels, amount: float, rng: Random) -> None:
    """Grain on every channel, even between -amount and amount of the full range."""
    reach = round(amount * 255)
    if reach:
        draw = np.frombuffer(rng.randbytes(pixels.size), np.uint8).reshape(pixels.shape).astype(np.int32)
        pixels += (draw * (2 * reach + 1) // ONE - reach).astype(np.int16)


def stamp(pixels: Pixels, mask: NDArray[np.bool_], x: int, y: int, colour: Colour) -> None:
    """Fill where the mask is true, with its corner at (x, y); parts outside the picture are left out."""
    height, width = pixels.shape[:2]
    top, left, bottom, right = max(y, 0), max(x, 0), min(y + mask.shape[0], height), min(x + mask.shape[1], width)
    if top < bottom and left < right:
        pixels[top:bottom, left:right][mask[top - y : bottom - y, left - x : right - x]] = colour


def write_text(pixels: Pixels, text: str, x: int, y: int, scale: int, colour: Colour) -> None:
    """A line of text with its upper left corner at (x, y)."""
    stamp(pixels, line_of(text, scale), x, y, colour)


def frame(pixels: Pixels, box: tuple[int, int, int, int], thickness: int, colour: Colour) -> None:
    """The outline of a box (x, y, width, height), drawn outside of it."""
    x, y, width, height = box
    mask = np.ones((height + 2 * thickness, width + 2 * thickness), np.bool_)
    mask[thickness:-thickness, thickness:-thickness] = False
    stamp(pixels, mask, x - thickness, y - thickness, colour)


@cache
def _object(concept: int, side: int, mirrored: bool) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Colours and opacity of an object in a size; Pillow resizes with integers."""
    tile = tile_of(concept)
    if mirrored:
        tile = tile.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    pixels = np.asarray(tile.resize((side, side), Image.Resampling.BILINEAR)).astype(np.int32)
    return pixels[..., :3], pixels[..., 3:]


def paste_object(
    pixels: Pixels,
    concept: int,
    x: int,
    y: int,
    side: int,
    *,
    mirrored: bool = False,
    hidden: float = 0.0,
    cut: int = 0,
) -> None:
    """An object of the sample world with its corner at (x, y), inside the picture.

    A strip of `hidden` of its side is cut away on one edge: `cut` 0 left, 1 right, 2 top, 3 bottom.
    """
    colours, opacity = _object(concept, side, mirrored)
    if strip := round(side * hidden):
        opacity = opacity.copy()
        edge = (np.s_[:, :strip], np.s_[:, side - strip :], np.s_[:strip], np.s_[side - strip :])[cut]
        opacity[edge] = 0
    area = pixels[y : y + side, x : x + side]
    area[:] = (colours * opacity + area * (255 - opacity)) // 255


def save(pixels: Pixels, path: Path) -> None:
    """Save as PNG or JPEG, by the file's suffix; creates the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    if path.suffix == ".png":
        picture.save(path, compress_level=1)
    else:
        picture.save(path, quality=JPEG_QUALITY)
