"""Counting by attribute, after VL-ICL's CLEVR count induction: how many solids of a shape, size, material or colour."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
from numpy.typing import NDArray

from flamingo_eval.sample.benchmarks.draws import rng_of
from flamingo_eval.sample.benchmarks.writers import write_json
from flamingo_eval.sample.fresh.canvas import Colour, Pixels, add_noise, ground, save, stamp
from flamingo_eval.sample.fresh.dials import ClevrDials
from flamingo_eval.sample.fresh.text_twins import write_text_twin

WIDTH, HEIGHT = 240, 160  # pixels of a picture: half of CLEVR's, so that ten thousand take a minute
COLOURS: Mapping[str, Colour] = {
    "gray": (87, 87, 87),
    "red": (173, 35, 35),
    "blue": (42, 75, 215),
    "green": (29, 105, 20),
    "brown": (129, 74, 25),
    "purple": (129, 38, 192),
    "cyan": (41, 208, 208),
    "yellow": (255, 238, 51),
}
ATTRIBUTES: Mapping[str, tuple[str, ...]] = {
    "size": ("small", "large"),
    "shape": ("cylinder", "sphere", "cube"),
    "material": ("rubber", "metal"),
    "color": tuple(COLOURS),
}
SIDES = {"small": 20, "large": 36}
COLUMNS, ROWS = 4, 3  # of the grid of the solids, each with a small random offset
FLOOR: Colour = (172, 172, 170)


@dataclass(frozen=True, slots=True)
class Solid:
    """One object of a scene and its position (upper left corner)."""

    size: str
    shape: str
    material: str
    color: str
    x: int
    y: int


def build_clevr(root: Path, dials: ClevrDials) -> None:
    """clevr/query.json, support.json, query/ and support/, and clevr_text/ with the scenes in words."""
    for part, subset, rows in (("query", "val", dials.queries), ("support", "train", dials.support)):
        records: list[dict[str, object]] = []
        texts = []
        for number in range(rows):
            name = f"CLEVR_{subset}_{number:06d}"
            image = f"clevr/{part}/{name}.png"
            solids, question, answer = scene_of(rng_of("vl_icl", "clevr", part, number), dials.objects)
            draw_scene(root / image, solids, name, dials)
            records.append({"id": f"clevr_{part}_{name}", "image": [image], "question": question, "answer": answer})
            texts.append(in_words(solids))
        write_json(root / "clevr" / f"{part}.json", records)
        write_text_twin(root, "clevr", part, records, texts)


def scene_of(rng: Random, most: int) -> tuple[list[Solid], str, int]:
    """Solids, a question that at least one of them answers, and their number."""
    places = rng.sample(range(COLUMNS * ROWS), COLUMNS * ROWS)[: rng.randint(2, most)]
    solids = [_solid(rng, place) for place in sorted(places)]
    attribute = rng.choice(tuple(ATTRIBUTES))
    value = getattr(rng.choice(solids), attribute)
    return solids, f"{attribute}: {value}", sum(getattr(s, attribute) == value for s in solids)


def in_words(solids: Iterable[Solid]) -> str:
    """`a large red rubber cube, a small cyan metal sphere`: every solid with its attributes, in the order drawn."""
    return ", ".join(f"a {s.size} {s.color} {s.material} {s.shape}" for s in solids)


def _solid(rng: Random, cell: int) -> Solid:
    attributes = {name: rng.choice(values) for name, values in ATTRIBUTES.items()}
    column, row = cell % COLUMNS, cell // COLUMNS
    x = column * WIDTH // COLUMNS + rng.randint(2, WIDTH // COLUMNS - SIDES["large"] - 6)
    y = row * HEIGHT // ROWS + rng.randint(2, HEIGHT // ROWS - SIDES["large"] - 6)
    return Solid(**attributes, x=x, y=y)


def draw_scene(path: Path, solids: list[Solid], key: str, dials: ClevrDials) -> None:
    """The picture of a scene; `key` names its background and noise."""
    pixels = ground(WIDTH, HEIGHT, FLOOR, rng_of("vl_icl", "clevr", "ground", key))
    for solid in solids:
        _draw_solid(pixels, solid)
    add_noise(pixels, dials.noise, rng_of("vl_icl", "clevr", "noise", key))
    save(pixels, path)


def _draw_solid(pixels: Pixels, solid: Solid) -> None:
    """A shadow, the solid in its colour, its darker side; metal has a white glint, rubber has none."""
    side, colour = SIDES[solid.size], COLOURS[solid.color]
    body, shade = outline(solid.shape, side)
    stamp(pixels, body, solid.x + 3, solid.y + 3, (120, 120, 118))
    stamp(pixels, body, solid.x, solid.y, colour)
    stamp(pixels, body & shade, solid.x, solid.y, tuple(c * 5 // 8 for c in colour))  # type: ignore[arg-type]
    if solid.material == "metal":
        stamp(
            pixels, np.ones((side // 3, side // 7), np.bool_), solid.x + side // 4, solid.y + side // 3, (250, 250, 250)
        )


def outline(shape: str, side: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """bool[side, side] each: the pixels of a solid, and which of them are in the shade."""
    y, x = np.mgrid[0:side, 0:side]
    right = 2 * x - side + 1  # from the middle, in half pixels
    down = 2 * y - side + 1
    if shape == "sphere":
        return right**2 + down**2 <= side**2, (right + side // 3) ** 2 + (down + side // 3) ** 2 > side**2
    if shape == "cylinder":  # an ellipse for each end
        cap, bottom = side // 5, side - 1 - side // 5
        top_end = (right * cap * 2) ** 2 + ((y - cap) * side * 2) ** 2 <= (side * cap * 2) ** 2
        low_end = (right * cap * 2) ** 2 + ((y - bottom) * side * 2) ** 2 <= (side * cap * 2) ** 2
        narrow = np.abs(right) <= side * 3 // 4
        body = (top_end | low_end | ((y >= cap) & (y <= bottom))) & narrow
        return body, body & ~top_end & (right > 0)
    depth = side // 4  # a cube: its front, its top and its side, in shade
    front = (x < side - depth) & (y >= depth)
    top = (y < depth) & (x >= depth - y) & (x < side - y)
    flank = (x >= side - depth) & (y >= side - 1 - x) & (y < side + (side - depth) - x - 1 + depth)
    return front | top | flank, flank & ~front
