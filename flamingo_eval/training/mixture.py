"""What is trained on: episodes. Each is a small dataset of its own, with conventions fixed for all its chunks.

The language model reads them with the pictures put into words; the Flamingo reads the pictures. Scenes come from the
training part of the sample world; held-out objects are neither shown nor named.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from random import Random

from flamingo_eval.sample.language import NONSENSE, QUESTION_TYPES, Conventions, ask, caption, describe
from flamingo_eval.sample.world import BACKGROUNDS, Scene, concepts, group_scene, pair_scene, seen


@dataclass(frozen=True, slots=True)
class Chunk:
    """One demonstration: a scene of the pool (None: text only), the stem, the answer, the picture in words."""

    scene: int | None
    stem: str
    answer: str
    words: str = ""


@dataclass(frozen=True)
class ScenePool:
    """Scenes that episodes draw from, findable by object and background."""

    scenes: tuple[Scene, ...]

    @cached_property
    def groups(self) -> Mapping[tuple[int, int], list[int]]:
        """(object, background) -> scenes of that object alone."""
        table: dict[tuple[int, int], list[int]] = defaultdict(list)
        for i, scene in enumerate(self.scenes):
            if scene.layout == "group":
                table[scene.objects[0], scene.background].append(i)
        return dict(table)

    @cached_property
    def pairs(self) -> Mapping[int, list[int]]:
        """background -> scenes of two objects."""
        table: dict[int, list[int]] = defaultdict(list)
        for i, scene in enumerate(self.scenes):
            if scene.layout == "pair":
                table[scene.background].append(i)
        return dict(table)

    @cached_property
    def objects(self) -> tuple[int, ...]:
        """Objects that stand alone in some scene."""
        return tuple(sorted({o for o, _ in self.groups}))


def draw_pool(key: str, objects: Sequence[int], views: int, pairs: int) -> ScenePool:
    """`views` scenes of each object (every background in turn) and `pairs` scenes of two."""
    scenes = [group_scene(f"{key}:{o}:{v}", o, v % len(BACKGROUNDS)) for o in objects for v in range(views)]
    rng = Random(f"{key}:pairs")
    for i in range(pairs):
        left, right = rng.sample(list(objects), 2)
        scenes.append(pair_scene(f"{key}:pair:{i}", left, right))
    return ScenePool(tuple(scenes))


def training_pool(key: str, views: int, pairs: int) -> ScenePool:
    """A pool of the training part: seen objects only."""
    return draw_pool(f"train:{key}", seen(), views, pairs)


Weights = Mapping[str, float]


def draw_episode(rng: Random, pool: ScenePool, weights: Weights, chunks: int, plain: float) -> list[Chunk]:
    """One episode of `chunks` demonstrations of a task drawn by `weights`.

    Tasks: bind, bind-colour, bind-count, name, caption, vqa. `plain` is the share of bind episodes whose pictures are
    put into one word.
    """
    task = rng.choices(tuple(weights), tuple(weights.values()))[0]
    if task.startswith("bind"):
        return _bind(rng, pool, task, chunks, rng.random() < plain)
    episode = _vqa(rng, pool, chunks) if task == "vqa" else _captions(rng, pool, task, chunks)
    if rng.random() < 0.12 and chunks > 2:  # zero shots in the paper's sense: two demonstrations without pictures
        episode = [replace(c, scene=None, words="") if i < 2 else c for i, c in enumerate(episode)]
    return episode


def _bind(rng: Random, pool: ScenePool, task: str, chunks: int, plain: bool) -> list[Chunk]:
    """`ways` classes with nonsense names; classes are objects, backgrounds or numbers."""
    ways = rng.choice((2, 2, 3, 4, 5, 5, 6, 7, 8, 8))
    backgrounds = range(len(BACKGROUNDS))
    if task == "bind-count":
        ways = min(ways, 4)
    names = rng.sample(NONSENSE, ways)
    objects = rng.sample(pool.objects, ways)
    if rng.random() < 0.25 and task == "bind":  # near neighbours: objects of one kind
        kind = concepts()[objects[0]].kind
        same = [o for o in pool.objects if concepts()[o].kind == kind]
        if len(same) >= ways:
            objects = rng.sample(same, ways)
    colours = rng.sample(list(backgrounds), ways)
    out: list[Chunk] = []
    while len(out) < chunks:
        way = rng.randrange(ways)
        if task == "bind":
            index = _group(rng, pool, objects[way], rng.choice(backgrounds))
        elif task == "bind-colour":
            index = _group(rng, pool, rng.choice(pool.objects), colours[way])
        else:
            index = _group(rng, pool, rng.choice(pool.objects), rng.choice(backgrounds))
            way = pool.scenes[index].count - 1
            if way >= ways:
                continue
        scene = pool.scenes[index]
        words = f" {concepts()[scene.objects[0]].name}" if plain and task == "bind" else describe(scene, rng)
        out.append(Chunk(index, "Output:", names[way], words))
    return out


def _captions(rng: Random, pool: ScenePool, task: str, chunks: int) -> list[Chunk]:
    conventions = Conventions.draw(rng)
    if task == "name":
        conventions = replace(conventions, caption=0)
    out: list[Chunk] = []
    for index in _world_part(rng, pool, chunks):
        scene = pool.scenes[index]
        out.append(Chunk(index, "Output:", caption(scene, conventions), describe(scene, rng)))
    return out


def _vqa(rng: Random, pool: ScenePool, chunks: int) -> list[Chunk]:
    """Questions of a few types, some more common than others."""
    conventions = Conventions.draw(rng)
    types = rng.sample(QUESTION_TYPES, rng.randint(1, len(QUESTION_TYPES)))
    common = [rng.random() ** 2 + 0.05 for _ in types]
    part = _world_part(rng, pool, chunks * 6)
    others = tuple(o for i in part for o in pool.scenes[i].objects)
    out: list[Chunk] = []
    for index in part:
        type = rng.choices(types, common)[0]
        scene = pool.scenes[index]
        asked = ask(type, scene, conventions, rng, others) or ask("colour", scene, conventions, rng, others)
        if asked is not None and (asked.type in types or rng.random() < 0.1):
            out.append(Chunk(index, f"Question: {asked.question} Answer:", asked.answer, describe(scene, rng)))
        if len(out) == chunks:
            return out
    return out if len(out) > 2 else _vqa(rng, pool, chunks)


def _world_part(rng: Random, pool: ScenePool, n: int) -> list[int]:
    """Scenes of one dataset: few or all backgrounds, few or all objects, some pairs."""
    colours = rng.sample(range(len(BACKGROUNDS)), rng.randint(2, len(BACKGROUNDS)))
    few = rng.random() < 0.4
    objects = rng.sample(pool.objects, rng.randint(3, 12)) if few else pool.objects
    share = rng.choice((0.0, 0.0, 0.2, 0.5)) if pool.pairs else 0.0
    out: list[int] = []
    for _ in range(n):
        colour = rng.choice(colours)
        if rng.random() < share and pool.pairs.get(colour):
            out.append(rng.choice(pool.pairs[colour]))
        else:
            out.append(_group(rng, pool, rng.choice(objects), colour))
    return out


def _group(rng: Random, pool: ScenePool, concept: int, background: int) -> int:
    choices = pool.groups.get((concept, background))
    if choices is None:  # a small pool lacks that background: any other
        choices = next(pool.groups[concept, b] for b in range(len(BACKGROUNDS)) if (concept, b) in pool.groups)
    return rng.choice(choices)
