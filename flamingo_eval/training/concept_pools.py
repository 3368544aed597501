"""Scenes that episodes draw from: training objects, objects invented from them, and clips.

An invented object is a training object that looks different (sample/world/render.py). The language model never reads a
name for it, so the model must recognise and bind it from the picture.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from random import Random

from flamingo_eval.sample.world.clips import MOTIONS
from flamingo_eval.sample.world.render import looks_of
from flamingo_eval.sample.world.scenes import BACKGROUNDS, Motion, Scene, concepts, group_scene, kinds, pair_scene, seen

Thing = tuple[int, int]  # an object and its look: (object, 0) is the object itself, any other look an invented object


@dataclass(frozen=True)
class ScenePool:
    """Scenes that episodes draw from, indexed by object and background."""

    scenes: tuple[Scene, ...]

    @cached_property
    def groups(self) -> Mapping[tuple[Thing, int], list[int]]:
        """(thing, background) -> scenes with only that thing."""
        table: dict[tuple[Thing, int], list[int]] = defaultdict(list)
        for i, scene in enumerate(self.scenes):
            if scene.layout == "group":
                table[thing_of(scene), scene.background].append(i)
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
    def motions(self) -> Mapping[Motion, list[int]]:
        """motion -> clips, in pools of clips."""
        table: dict[Motion, list[int]] = defaultdict(list)
        for i, scene in enumerate(self.scenes):
            if scene.motion:
                table[scene.motion].append(i)
        return dict(table)

    @cached_property
    def things(self) -> tuple[Thing, ...]:
        """Things that are alone in some scene."""
        return tuple(sorted({thing for thing, _ in self.groups}))

    @cached_property
    def objects(self) -> tuple[int, ...]:
        """Objects in their usual look that are alone in some scene; these have names."""
        return tuple(o for o, look in self.things if not look)

    @cached_property
    def invented(self) -> tuple[Thing, ...]:
        """Things that no text names."""
        return tuple(thing for thing in self.things if thing[1])

    @cached_property
    def of_kind(self) -> Mapping[str, list[Thing]]:
        """Superordinate -> things of that kind, including invented ones."""
        table: dict[str, list[Thing]] = {kind: [] for kind in kinds()}
        for thing in self.things:
            table[concepts()[thing[0]].kind].append(thing)
        return table


def thing_of(scene: Scene) -> Thing:
    """The object in a scene with one kind of object."""
    return scene.objects[0], scene.look


def draw_pool(key: str, objects: Sequence[int], views: int, pairs: int, invented: int = 0) -> ScenePool:
    """`views` scenes of each object, on every background in turn, `pairs` of two, `invented` of each other look."""
    scenes = [group_scene(f"{key}:{o}:{v}", o, v % len(BACKGROUNDS)) for o in objects for v in range(views)]
    rng = Random(f"{key}:pairs")
    for i in range(pairs):
        left, right = rng.sample(list(objects), 2)
        scenes.append(pair_scene(f"{key}:pair:{i}", left, right))
    appearances = [(o, look) for o in objects for look in looks_of(o)] if invented else []
    scenes += [
        group_scene(f"{key}:{o}:look {look}:{v}", o, v % len(BACKGROUNDS), look=look)
        for o, look in appearances
        for v in range(invented)
    ]
    return ScenePool(tuple(scenes))


def training_pool(key: str, views: int, pairs: int, invented: int = 0) -> ScenePool:
    """A pool of pictures with training objects only."""
    return draw_pool(f"train:{key}", seen(), views, pairs, invented)


def training_clips(key: str, n: int) -> ScenePool:
    """A pool of clips with one or two training objects of a kind, moving or still."""
    rng = Random(f"train:{key}:clips")
    return ScenePool(
        tuple(
            replace(
                group_scene(f"train:{key}:clip:{i}", rng.choice(seen()), count=rng.choice((1, 2))),
                motion=MOTIONS[i % len(MOTIONS)],
            )
            for i in range(n)
        )
    )
