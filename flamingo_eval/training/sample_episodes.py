"""Training episodes. Each is a small dataset with the same conventions in all of its chunks.

The language model reads descriptions of the pictures; the Flamingo reads the pictures. Scenes are from the training
part of the sample world; held-out objects are neither shown nor named.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random

from flamingo_eval.sample.world.clips import MOTIONS
from flamingo_eval.sample.world.scenes import BACKGROUNDS, concepts, seen
from flamingo_eval.sample.world.wording import (
    COLOURS,
    NONSENSE,
    NUMBERS,
    QUESTION_TYPES,
    Conventions,
    ask,
    caption,
    describe,
)
from flamingo_eval.training.concept_pools import ScenePool, Thing, thing_of

INVENTED = 0.5  # share of bind episodes with invented objects, if the pool has some
NEIGHBOURS = 0.25  # share of bind episodes whose objects are of one kind
BLEND = (0.2, 0.5)  # least and largest share of the second object in a blend


@dataclass(frozen=True, slots=True)
class Chunk:
    """One demonstration: a scene of the pool (None: text only), the stem, the answer, a description of the picture.

    `blend` is a second scene and its share of the features (stage 3 only; descriptions ignore it).
    """

    scene: int | None
    stem: str
    answer: str
    words: str = ""
    blend: tuple[int, float] | None = None


Weights = Mapping[str, float]


def draw_episode(
    rng: Random, pool: ScenePool, weights: Weights, chunks: int, plain: float, blends: float = 0.0
) -> list[Chunk]:
    """One episode of `chunks` demonstrations of a task drawn by `weights`.

    Tasks: bind, bind-colour, bind-count, name, caption, vqa; bound (questions, mostly about a name bound to a
    background or to a kind of object); clip (from a pool of clips). `plain` is the share of binding episodes whose
    pictures are described by the one word that matters; `blends` is the share of bind episodes whose objects are blends
    of two.
    """
    task = rng.choices(tuple(weights), tuple(weights.values()))[0]
    if task.startswith("bind"):
        return _bind(rng, pool, task, chunks, rng.random() < plain, blends)
    if task == "clip":
        return _clips(rng, pool, chunks)
    is_question = task in ("vqa", "bound")
    episode = _vqa(rng, pool, task, chunks, plain) if is_question else _captions(rng, pool, task, chunks)
    if rng.random() < 0.12 and chunks > 2:  # zero shots in the paper's sense: two demonstrations without pictures
        episode = [replace(c, scene=None, words="") if i < 2 else c for i, c in enumerate(episode)]
    return episode


def _bind(rng: Random, pool: ScenePool, task: str, chunks: int, plain: bool, blends: float) -> list[Chunk]:
    """`ways` classes with nonsense names; classes are things, backgrounds or numbers."""
    ways = rng.choice((2, 2, 3, 4, 5, 5, 6, 7, 8, 8))
    backgrounds = range(len(BACKGROUNDS))
    if task == "bind-count":
        ways = min(ways, 4)
    names = rng.sample(NONSENSE, ways)
    things = _bound_things(rng, pool, ways)
    second_answers = _others(rng, pool, ways) if task == "bind" and blends and rng.random() < blends else None
    colours = rng.sample(list(backgrounds), ways)
    out: list[Chunk] = []
    while len(out) < chunks:
        way = rng.randrange(ways)
        if task == "bind":
            index = _group(rng, pool, things[way], rng.choice(backgrounds))
        elif task == "bind-colour":
            index = _group(rng, pool, rng.choice(pool.things), colours[way])
        else:
            index = _group(rng, pool, rng.choice(pool.things), rng.choice(backgrounds))
            way = pool.scenes[index].count - 1
            if way >= ways:
                continue
        scene = pool.scenes[index]
        name = words_for(thing_of(scene))
        bound_by = {"bind": name, "bind-colour": COLOURS["basic"][scene.background]}
        words = f" {bound_by.get(task, NUMBERS['word'][scene.count - 1])}" if plain else describe(scene, rng, name)
        blend = None
        if second_answers is not None:
            second_answer, share = second_answers[way]
            blend = _group(rng, pool, second_answer, scene.background), share
        out.append(Chunk(index, "Output:", names[way], words, blend))
    return out


def _others(rng: Random, pool: ScenePool, ways: int) -> list[tuple[Thing, float]]:
    """For each object of an episode, a second one to blend it with and its share: an endless supply of new objects.

    A blend of two objects can be bound like an object. A Resampler trained only on the pool's objects distinguishes
    held-out objects less well than the encoder does.
    """
    return [(rng.choice(pool.things), rng.uniform(*BLEND)) for _ in range(ways)]


def _bound_things(rng: Random, pool: ScenePool, ways: int) -> list[Thing]:
    """Objects, invented ones, or both; often near neighbours."""
    invented = bool(pool.invented) and rng.random() < INVENTED
    choices: Sequence[Thing] = pool.things if invented else tuple((o, 0) for o in pool.objects)
    if rng.random() < NEIGHBOURS:
        kind = concepts()[rng.choice(choices)[0]].kind
        same_kind = [thing for thing in pool.of_kind[kind] if invented or not thing[1]]
        if len(same_kind) >= ways:
            choices = same_kind
    return rng.sample(choices, ways)


def words_for(thing: Thing) -> str:
    """The words for a thing: its name; for an invented one two names, that of its artwork and another."""
    object, look = thing
    if not look:
        return concepts()[object].name
    named_objects = seen()
    index = named_objects[(named_objects.index(object) + 61 * look) % len(named_objects)]
    return f"{concepts()[object].name} {concepts()[index].name}"


def _clips(rng: Random, pool: ScenePool, chunks: int) -> list[Chunk]:
    """Clips: directions of motion, in words or nonsense names; captions with the motion; names of objects."""
    conventions = Conventions.draw(rng)
    kind = rng.choice(("motion", "motion", "bind", "caption", "what"))
    motions = rng.sample(MOTIONS, rng.randint(2, len(MOTIONS)))
    names = dict(zip(motions, rng.sample(NONSENSE, len(motions)), strict=True))
    out: list[Chunk] = []
    for _ in range(chunks):
        index = rng.choice(pool.motions[rng.choice(motions)])
        scene = pool.scenes[index]
        moving = "still" if scene.motion == "still" else f"moving {scene.motion}"
        if kind == "caption":
            stem, answer = "Output:", f"{caption(scene, conventions)} {moving}"
        elif kind == "bind":
            stem, answer = "Output:", names[scene.motion]
        elif kind == "motion":
            stem, answer = "Question: where does it go? Answer:", str(scene.motion)
        else:
            question = ask("what", scene, conventions, rng, ())
            assert question is not None
            stem, answer = f"Question: {question.question} Answer:", question.answer
        out.append(Chunk(index, stem, answer, f"{describe(scene, rng)} {moving}"))
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


def _vqa(rng: Random, pool: ScenePool, task: str, chunks: int, plain: float) -> list[Chunk]:
    """Questions of a few types, with different frequencies."""
    conventions = Conventions.draw(rng)
    if task == "bound":
        first = rng.choice(("where", "where", "shelf"))
        types = [first, *rng.sample([t for t in QUESTION_TYPES if t != first], rng.randint(0, 6))]
        common = [1.0, *(0.15 * rng.random() for _ in types[1:])]
        part = _world_part(rng, pool, chunks * 6, most_colours=5)
    else:
        types = rng.sample(QUESTION_TYPES, rng.randint(1, len(QUESTION_TYPES)))
        common = [rng.random() ** 2 + 0.05 for _ in types]
        part = _world_part(rng, pool, chunks * 6)
    shown_objects = tuple(o for i in part for o in pool.scenes[i].objects)
    one_word = task == "bound" and rng.random() < plain
    out: list[Chunk] = []
    for index in part:
        type = rng.choices(types, common)[0]
        scene = pool.scenes[index]
        question = ask(type, scene, conventions, rng, shown_objects) or ask(
            "colour", scene, conventions, rng, shown_objects
        )
        if question is not None and (question.type in types or rng.random() < 0.1):
            words = describe(scene, rng)
            if one_word and question.type in ("where", "shelf"):
                word = (
                    COLOURS["basic"][scene.background]
                    if question.type == "where"
                    else concepts()[scene.objects[0]].name
                )
                words = f" {word}"
            out.append(Chunk(index, f"Question: {question.question} Answer:", question.answer, words))
        if len(out) == chunks:
            return out
    return out if len(out) > 2 else _vqa(rng, pool, task, chunks, plain)


def _world_part(rng: Random, pool: ScenePool, n: int, most_colours: int = len(BACKGROUNDS)) -> list[int]:
    """The scenes of one dataset: few or all backgrounds, few or all objects, some pairs."""
    colours = rng.sample(range(len(BACKGROUNDS)), rng.randint(2, most_colours))
    is_small = rng.random() < 0.4
    objects = rng.sample(pool.objects, rng.randint(3, 12)) if is_small else pool.objects
    share = rng.choice((0.0, 0.0, 0.2, 0.5)) if pool.pairs else 0.0
    out: list[int] = []
    for _ in range(n):
        colour = rng.choice(colours)
        if rng.random() < share and pool.pairs.get(colour):
            out.append(rng.choice(pool.pairs[colour]))
        else:
            out.append(_group(rng, pool, (rng.choice(objects), 0), colour))
    return out


def _group(rng: Random, pool: ScenePool, thing: Thing, background: int) -> int:
    choices = pool.groups.get((thing, background))
    if choices is None:  # a small pool may not have that background: take any other
        choices = next(pool.groups[thing, b] for b in range(len(BACKGROUNDS)) if (thing, b) in pool.groups)
    return rng.choice(choices)
