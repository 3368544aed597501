"""The sample world: its objects, backgrounds and scenes. A scene is a small record; render.py draws it.

There is no global random generator: a scene's record and the world's version decide every pixel.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from typing import Literal

WORLD_VERSION = "1"  # part of every random key: a new version is a new world, and needs a new checkpoint
SAMPLE_VERSION = "3"  # version of the rendered benchmarks: any change of their pixels, texts or draws needs a new one

_seed: ContextVar[int | None] = ContextVar("seed of the world", default=None)

Layout = Literal["group", "pair"]
Motion = Literal["", "left", "right", "up", "down", "still"]

# names of a background in three conventions, and its mean colour (RGB)
BACKGROUNDS: tuple[tuple[int, int, int], ...] = (
    (214, 52, 52),
    (240, 142, 40),
    (240, 216, 72),
    (84, 178, 84),
    (64, 118, 216),
    (148, 84, 190),
    (150, 150, 154),
    (122, 82, 50),
)


def world() -> str:
    """The start of every key of a draw: the world's version, and the seed of a fresh copy."""
    seed = _seed.get()
    return WORLD_VERSION if seed is None else f"{WORLD_VERSION} seed {seed}"


@contextmanager
def drawn_from(seed: int | None) -> Iterator[None]:
    """In this block all draws are for a fresh copy; None: for the sample."""
    token = _seed.set(seed)
    try:
        yield
    finally:
        _seed.reset(token)


@dataclass(frozen=True, slots=True)
class Concept:
    """One kind of object: its word, its superordinate, whether training may show or name it, and its atlas tile."""

    name: str
    kind: str
    held_out: bool
    tile: int


@dataclass(frozen=True, slots=True)
class Scene:
    """What a picture shows: `count` copies of one object, or two different objects side by side (left, right).

    `objects` are indices into concepts(). `sign` is text on a board, `motion` the direction of a clip's objects.
    `look` 0 is the unchanged artwork; other looks (render.LOOKS) are invented objects that only training knows.
    """

    key: str  # decides positions, sizes, tints, noise
    objects: tuple[int, ...]
    count: int
    background: int
    layout: Layout = "group"
    sign: str = ""
    motion: Motion = ""
    look: int = 0


@cache
def concepts() -> tuple[Concept, ...]:
    """All objects, in atlas order."""
    table = json.loads((Path(__file__).parent / "atlas.json").read_text(encoding="utf-8"))
    return tuple(Concept(row["name"], row["kind"], row["held_out"], i) for i, row in enumerate(table["concepts"]))


@cache
def seen() -> tuple[int, ...]:
    """Objects that training shows and names."""
    return tuple(i for i, c in enumerate(concepts()) if not c.held_out)


@cache
def held_out() -> tuple[int, ...]:
    """Objects that occur only in the evaluation part: no picture and no word of them is in any training."""
    return tuple(i for i, c in enumerate(concepts()) if c.held_out)


@cache
def kinds() -> tuple[str, ...]:
    """Superordinates, in atlas order."""
    return tuple(dict.fromkeys(c.kind for c in concepts()))


def group_scene(
    key: str, concept: int, background: int | None = None, count: int | None = None, look: int = 0
) -> Scene:
    """A scene of one kind of object; missing values are drawn from the key."""
    rng = Random(f"{world()}:{key}")
    drawn_background, drawn_count = rng.randrange(len(BACKGROUNDS)), rng.choice((1, 1, 2, 3, 4))
    return Scene(
        key,
        (concept,),
        drawn_count if count is None else count,
        drawn_background if background is None else background,
        look=look,
    )


def pair_scene(key: str, left: int, right: int, background: int | None = None) -> Scene:
    """Two different objects, the first on the left."""
    background_index = Random(f"{world()}:{key}").randrange(len(BACKGROUNDS))
    return Scene(key, (left, right), 1, background_index if background is None else background, "pair")
