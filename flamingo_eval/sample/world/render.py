"""Scene -> picture. A pure function of the world's version and the scene; numpy and Pillow only."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageEnhance, ImageFont

from flamingo_eval.sample.world.scenes import BACKGROUNDS, Scene, world

SIDE = 128  # pixels of a picture
TILE = 64
COLUMNS = 20
TRAVEL = 0.5  # share of the picture that moving objects cross in a clip
# object sizes by number of objects (pixels)
SIZES = {1: (56, 104), 2: (44, 64), 3: (38, 56), 4: (34, 52)}


@dataclass(frozen=True, slots=True)
class Placement:
    """The position of one object: centre, side, angle in degrees, mirrored or not, brightness, occluded share."""

    x: float
    y: float
    size: int
    angle: float
    mirrored: bool
    brightness: float
    hidden: float


@cache
def _tiles() -> tuple[Image.Image, ...]:
    with Image.open(Path(__file__).parent / "atlas.png") as file:
        sheet = file.convert("RGBA")
    rows = sheet.height // TILE
    boxes = [(c * TILE, r * TILE, (c + 1) * TILE, (r + 1) * TILE) for r in range(rows) for c in range(COLUMNS)]
    return tuple(sheet.crop(box) for box in boxes)


# The looks of an object: its own, then with exchanged colours or upside down
LOOKS: tuple[Callable[[Image.Image], Image.Image], ...] = (
    lambda tile: tile,
    lambda tile: _exchanged(tile, "GBR"),
    lambda tile: _exchanged(tile, "BRG"),
    lambda tile: tile.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
    lambda tile: _exchanged(tile, "RBG").transpose(Image.Transpose.FLIP_TOP_BOTTOM),
)
APART = 22.0  # smallest mean difference, in grey levels, between two different looks


def _exchanged(tile: Image.Image, order: str) -> Image.Image:
    bands = dict(zip("RGBA", tile.split(), strict=True))
    return Image.merge("RGBA", [bands[b] for b in order] + [bands["A"]])


def tile_of(concept: int) -> Image.Image:
    """The unchanged artwork of an object: RGBA, 64 x 64."""
    return _tiles()[concept]


@cache
def _tile(concept: int, look: int) -> Image.Image:
    return LOOKS[look](_tiles()[concept])


@cache
def looks_of(concept: int) -> tuple[int, ...]:
    """Looks of an object, without its own, that differ visibly from it and from each other, mirrored or not."""
    looks = [0]
    for look in range(1, len(LOOKS)):
        if all(_difference(concept, look, other) >= APART for other in looks):
            looks.append(look)
    return tuple(looks[1:])


def _difference(concept: int, a: int, b: int) -> float:
    """Mean over the pixels that either fills, on grey; the smaller value with and without mirroring."""
    tile = np.asarray(_tile(concept, a), np.float32)
    other_tiles = (_tile(concept, b), _tile(concept, b).transpose(Image.Transpose.FLIP_LEFT_RIGHT))
    return min(_apart(tile, np.asarray(other, np.float32)) for other in other_tiles)


def _apart(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    on_grey = [x[..., :3] * x[..., 3:] / 255 + 128 * (1 - x[..., 3:] / 255) for x in (a, b)]
    filled = (a[..., 3] > 0) | (b[..., 3] > 0)
    return float(np.abs(on_grey[0] - on_grey[1])[filled].mean())


def render(scene: Scene) -> Image.Image:
    """RGB, 128 x 128."""
    return _draw(scene, (0.0, 0.0))


def render_clip(scene: Scene, frames: int) -> list[Image.Image]:
    """The frames of a clip in which the objects move as in `scene.motion`, by half a picture's width."""
    dx, dy = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}.get(scene.motion, (0, 0))
    steps = [TRAVEL * SIDE * (i / max(frames - 1, 1) - 0.5) for i in range(frames)]
    return [_draw(scene, (dx * step, dy * step)) for step in steps]


def _draw(scene: Scene, shift: tuple[float, float]) -> Image.Image:
    rng = Random(f"{world()}:draw:{scene.key}")
    picture = _background(scene, rng)
    placements = _pair_places(rng) if scene.layout == "pair" else _group_places(rng, scene.count, bool(scene.sign))
    for placement, concept in zip(placements, scene.objects * scene.count, strict=False):
        _paste(picture, _tile(concept, scene.look), placement, shift, rng)
    if scene.sign:
        _sign(picture, scene.sign, rng)
    return picture


def _background(scene: Scene, rng: Random) -> Image.Image:
    """A colour close to the background's own, with a gradient, perhaps a pattern, and noise."""
    seed = hashlib.sha256(f"{world()}:noise:{scene.key}".encode()).digest()[:8]
    noise = np.random.Generator(np.random.PCG64(int.from_bytes(seed, "big")))
    colour = np.array([c + rng.uniform(-14, 14) for c in BACKGROUNDS[scene.background]], np.float32)
    angle = rng.uniform(0, 2 * math.pi)
    axis = np.linspace(-0.5, 0.5, SIDE, dtype=np.float32)
    along = axis[None, :] * np.float32(math.cos(angle)) + axis[:, None] * np.float32(math.sin(angle))
    light: NDArray[np.float32] = 1 + np.float32(rng.uniform(0.0, 0.35)) * along
    pattern = rng.choice(("plain", "plain", "stripes", "dots", "sky"))
    period, depth = rng.uniform(8, 24), np.float32(rng.uniform(0.05, 0.16))
    if pattern == "stripes":
        light += depth * np.sin(along * np.float32(2 * math.pi * SIDE / period))
    elif pattern == "dots":
        wave = np.sin(axis * np.float32(2 * math.pi * SIDE / period))
        light += depth * (wave[None, :] * wave[:, None])
    elif pattern == "sky":
        light += depth * np.sign(axis[:, None] - np.float32(rng.uniform(-0.2, 0.2)))
    grain = noise.random((SIDE, SIDE, 3), dtype=np.float32) - 0.5
    pixels = colour * light[:, :, None] + grain * np.float32(rng.uniform(4, 30))
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def _group_places(rng: Random, count: int, low: bool) -> list[Placement]:
    """Random places that hardly overlap; only in the upper part if `low` (for a board)."""
    small, large = SIZES[count]
    size = rng.randint(small, large if not low else (small + large) // 2)
    half = size * 0.42
    bottom = SIDE * 0.72 if low else float(SIDE)
    best: list[tuple[float, float]] = []
    best_gap = -1.0
    for _ in range(12):
        points = [(rng.uniform(half, SIDE - half), rng.uniform(half, bottom - half)) for _ in range(count)]
        gap = min((math.dist(a, b) for i, a in enumerate(points) for b in points[:i]), default=math.inf)
        if gap > best_gap:
            best, best_gap = points, gap
        if gap > size * 0.9:
            break
    if best_gap < size * 0.75:  # one corner each, with a random offset
        corners = [(0.26, 0.26), (0.74, 0.74), (0.74, 0.26), (0.26, 0.74)]
        best = [(x * SIDE + rng.uniform(-5, 5), y * bottom + rng.uniform(-5, 5)) for x, y in corners[:count]]
    return [_placement(rng, x, y, round(size * rng.uniform(0.9, 1.1))) for x, y in best]


def _pair_places(rng: Random) -> list[Placement]:
    left, right = rng.uniform(0.24, 0.32), rng.uniform(0.68, 0.76)
    return [_placement(rng, x * SIDE, rng.uniform(0.3, 0.7) * SIDE, rng.randint(46, 66)) for x in (left, right)]


def _placement(rng: Random, x: float, y: float, size: int) -> Placement:
    hidden = rng.uniform(0.08, 0.22) if rng.random() < 0.15 else 0.0
    return Placement(x, y, size, rng.uniform(-25, 25), rng.random() < 0.5, rng.uniform(0.8, 1.15), hidden)


def _paste(
    picture: Image.Image, tile: Image.Image, placement: Placement, shift: tuple[float, float], rng: Random
) -> None:
    if placement.mirrored:
        tile = tile.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    tile = tile.resize((placement.size, placement.size), Image.Resampling.BILINEAR)
    tile = tile.rotate(placement.angle, Image.Resampling.BILINEAR)
    alpha = tile.getchannel("A")
    if placement.hidden:  # occlusion: a strip of the object is cut away on one side
        strip = round(placement.size * placement.hidden)
        side = rng.choice(("left", "right", "top", "bottom"))
        s = placement.size
        box = {"left": (0, 0, strip, s), "right": (s - strip, 0, s, s), "top": (0, 0, s, strip)}.get(
            side, (0, s - strip, s, s)
        )
        alpha.paste(0, box)
    colours = ImageEnhance.Brightness(tile.convert("RGB")).enhance(placement.brightness)
    corner = (round(placement.x + shift[0] - placement.size / 2), round(placement.y + shift[1] - placement.size / 2))
    picture.paste(colours, corner, alpha)


def _sign(picture: Image.Image, text: str, rng: Random) -> None:
    """A white board with dark capitals near the bottom."""
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(16)
    width = draw.textlength(text.upper(), font=font)
    x, y = (SIDE - width) / 2 + rng.uniform(-6, 6), SIDE - 30 + rng.uniform(-4, 2)
    draw.rectangle((x - 5, y - 3, x + width + 5, y + 20), fill=(250, 250, 246), outline=(30, 30, 30))
    draw.text((x, y), text.upper(), fill=(20, 20, 20), font=font)
