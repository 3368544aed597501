"""Scenes, questions and captions for the other benchmarks of the sample, each in its own conventions.

Every value is drawn from a key that names benchmark, part and number, so nothing depends on the order of writing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from random import Random

from flamingo_eval.sample.world.scenes import Scene, drawn_from, group_scene, seen, world
from flamingo_eval.sample.world.wording import COLOURS, NUMBERS, Asked, Conventions, ask, caption

TRAIN_ROWS, EVAL_ROWS = 288, 96
PARTS = ("train", "eval")
OFF_CONVENTION = 0.08  # share of answers in which an annotator uses other words than the others


@dataclass(frozen=True, slots=True)
class Drawn:
    """One scene with its question and captions. `number` counts over both parts, so ids are unique."""

    number: int
    scene: Scene
    asked: Asked


def rng_of(*key: object) -> Random:
    """A separate generator for each key."""
    return Random(":".join([world(), *map(str, key)]))


@cache
def conventions(benchmark: str) -> Conventions:
    """How the annotators of one benchmark write; the same in every fresh copy."""
    with drawn_from(None):
        return Conventions.draw(rng_of("conventions", benchmark))


def rows(part: str) -> range:
    """Numbers of the rows of a part: those of `eval` follow those of `train`."""
    return range(TRAIN_ROWS) if part == "train" else range(TRAIN_ROWS, TRAIN_ROWS + EVAL_ROWS)


def scene_of(benchmark: str, number: int, sign: str = "") -> Scene:
    """The scene of one row; with a sign, of one object above it."""
    rng = rng_of("scene", benchmark, number)
    key = f"sample:{benchmark}:{number}"
    return replace(group_scene(key, rng.choice(seen()), count=1 if sign else None), sign=sign)


def ask_about(benchmark: str, scene: Scene, types: tuple[str, ...], key: object) -> Asked:
    """A question of one of the types about a scene, answered in the benchmark's convention."""
    rng = rng_of("ask", benchmark, key)
    other_objects = tuple(rng.sample(seen(), 4))
    question = ask(rng.choice(types), scene, conventions(benchmark), rng, other_objects)
    assert question is not None, "only types that every group of objects gives occasion for are asked"
    return question


def draw(benchmark: str, part: str, types: tuple[str, ...]) -> list[Drawn]:
    """The rows of a part."""
    scenes = [(n, scene_of(benchmark, n)) for n in rows(part)]
    return [Drawn(n, scene, ask_about(benchmark, scene, types, n)) for n, scene in scenes]


def answers_of(benchmark: str, number: int, question: Asked, scene: Scene, count: int = 10) -> list[str]:
    """The answers of `count` annotators: nearly all the same, some in other words."""
    rng = rng_of("answers", benchmark, number)
    return [question.answer if rng.random() >= OFF_CONVENTION else _other(question, scene, rng) for _ in range(count)]


def captions_of(benchmark: str, number: int, scene: Scene, count: int = 5) -> list[str]:
    """`count` captions: most in the benchmark's style, the others in a neighbouring one."""
    own_style = conventions(benchmark)
    other_style = replace(own_style, caption=rng_of("captions", benchmark, number).choice((0, 1, 8)))
    return [caption(scene, own_style if i % 5 < 3 else other_style) for i in range(count)]


def _other(question: Asked, scene: Scene, rng: Random) -> str:
    if question.type == "count":
        return NUMBERS[rng.choice(("word", "digit"))][scene.count - 1]
    if question.type == "colour":
        return COLOURS["basic"][scene.background]
    return "don't know"
