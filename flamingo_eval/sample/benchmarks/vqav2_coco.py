"""The pictures and texts of the sample's picture benchmarks, before any layout: VQAv2 and COCO share them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from random import Random

from flamingo_eval.sample.world.scenes import (
    SAMPLE_VERSION,
    Scene,
    concepts,
    group_scene,
    pair_scene,
    seen,
    world,
)
from flamingo_eval.sample.world.wording import COLOURS, NUMBERS, Asked, Conventions, ask, caption, name_of

TRAIN_PICTURES, EVAL_PICTURES = 2304, 400
ANNOTATORS = 10
OFF_CONVENTION = 0.08  # share of answers in which an annotator uses other words than the others

# How the annotators write. Names of places are arbitrary: only demonstrations show which is which.
CONVENTIONS = Conventions(
    numbers="roman",
    colours="fancy",
    name="bare",
    yes_no=("yes", "no"),
    places={0: "orchard", 3: "harbor", 4: "attic"},
    caption=5,
)
BACKGROUNDS = tuple(CONVENTIONS.places)
# How often each type of question is asked. Most need information that only demonstrations give, because the sample
# should show learning from them (the model card says how this mix was chosen).
QUESTIONS: Mapping[str, float] = {
    "where": 0.77,
    "what": 0.06,
    "count": 0.07,
    "colour": 0.04,
    "present": 0.04,
    "left": 0.01,
    "right": 0.01,
}
ANSWER_TYPES = {"present": "yes/no", "compare": "yes/no", "count": "number"}


@dataclass(frozen=True, slots=True)
class Pictured:
    """One picture with its question, ten answers and five captions."""

    id: int
    scene: Scene
    asked: Asked
    answers: tuple[str, ...]
    captions: tuple[str, ...]


def draw_part(part: str, n: int, first_id: int) -> list[Pictured]:
    """Pictures `first_id`, ... of the `train` or the `eval` part. No scene is in both, nor in a model's training."""
    return [_draw(f"sample {SAMPLE_VERSION}:{part}:{i}", first_id + i) for i in range(n)]


def _draw(key: str, id: int) -> Pictured:
    rng = Random(f"{world()}:{key}")
    type = rng.choices(tuple(QUESTIONS), tuple(QUESTIONS.values()))[0]
    background = rng.choice(BACKGROUNDS)
    objects = seen()
    if type in ("left", "right"):
        left, right = rng.sample(objects, 2)
        scene = pair_scene(key, left, right, background)
    else:
        scene = group_scene(key, rng.choice(objects), background, rng.choice((1, 2, 3, 4)))
    question = ask(type, scene, CONVENTIONS, rng, tuple(rng.sample(seen(), 4)))
    assert question is not None, "every type is drawn with a scene that gives occasion for it"
    answers = tuple(_answer(question, scene, rng) for _ in range(ANNOTATORS))
    return Pictured(id, scene, question, answers, _captions(scene, rng))


def _answer(question: Asked, scene: Scene, rng: Random) -> str:
    """One annotator's answer: sometimes in other words, or wrong."""
    if rng.random() >= OFF_CONVENTION:
        return question.answer
    first = scene.objects[0]
    if question.type == "count":
        return NUMBERS[rng.choice(("word", "digit"))][scene.count - 1]
    if question.type == "colour":
        return COLOURS["basic"][scene.background]
    if question.type == "where":
        return rng.choice(tuple(CONVENTIONS.places.values()))
    if question.type == "present":
        return "no" if question.answer == "yes" else "yes"
    if question.type == "what":
        return rng.choice((name_of(first, "article"), concepts()[first].kind))
    return rng.choice((name_of(first), "don't know"))


def _captions(scene: Scene, rng: Random) -> tuple[str, ...]:
    """Five captions in one style; two of the five annotators vary it."""
    usual = caption(scene, replace(CONVENTIONS, numbers="word"))
    reordered = caption(scene, replace(CONVENTIONS, numbers="word", caption=4))
    short_caption = caption(scene, replace(CONVENTIONS, numbers="word", caption=6))
    return (usual, usual, usual, *rng.sample((reordered, short_caption), 2))
