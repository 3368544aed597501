"""Texts about a scene, under the conventions of one data set.

Annotators of real datasets differ in how they write: digits or words, names of colours and places, which shelf a thing
belongs on. Here a dataset is a `Conventions` record. Names of places, shelves and things may be *bound*: they have a
meaning only within one dataset, so only its demonstrations explain them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Literal

from flamingo_eval.sample.world.scenes import BACKGROUNDS, Scene, concepts, kinds

NUMBERS: Mapping[str, tuple[str, ...]] = {
    "word": ("one", "two", "three", "four"),
    "digit": ("1", "2", "3", "4"),
    "roman": ("i", "ii", "iii", "iv"),
    "spanish": ("uno", "dos", "tres", "cuatro"),
}
COLOURS: Mapping[str, tuple[str, ...]] = {
    "basic": ("red", "amber", "yellow", "green", "blue", "purple", "gray", "brown"),
    "fancy": ("crimson", "tangerine", "golden", "emerald", "azure", "violet", "silver", "chocolatey"),
    "french": ("rouge", "ambre", "jaune", "vert", "bleu", "pourpre", "gris", "brun"),
}
PLACES = (
    "harbor",
    "mill",
    "market",
    "garden",
    "station",
    "museum",
    "farm",
    "beach",
    "forest",
    "valley",
    "library",
    "palace",
    "plaza",
    "meadow",
    "island",
    "canyon",
    "quarry",
    "village",
    "airport",
    "attic",
    "cellar",
    "desert",
    "temple",
    "orchard",
)
SHELVES = (
    "alpha",
    "beta",
    "gamma",
    "delta",
    "epsilon",
    "zeta",
    "eta",
    "theta",
    "iota",
    "kappa",
    "lambda",
    "omicron",
    "sigma",
    "tau",
    "upsilon",
    "omega",
)
NONSENSE = (
    "dax",
    "blicket",
    "toma",
    "wug",
    "fep",
    "ziv",
    "lorp",
    "gazzer",
    "perpo",
    "modi",
    "kiki",
    "bouba",
    "slithy",
    "tove",
    "mimsy",
    "borogove",
    "rath",
    "outgrabe",
    "frabjous",
    "callay",
    "uffish",
    "whiffling",
    "burble",
    "vorpal",
    "snicker",
    "galumph",
    "beamish",
    "chortle",
    "manxome",
    "tulgey",
    "bandersnatch",
    "jubjub",
    "nadu",
    "pilk",
    "riff",
    "gorp",
    "tazz",
    "nim",
    "quob",
    "yarg",
    "zorp",
    "flib",
    "drune",
    "splat",
    "krell",
    "mubba",
    "noot",
    "oggle",
    "prink",
    "quist",
    "rimble",
    "sorb",
    "trank",
    "ulmo",
    "vint",
    "wabe",
    "xen",
    "yeb",
    "zant",
    "clup",
    "dorf",
    "evek",
    "fusk",
    "gleeb",
)
YES_NO = (("yes", "no"), ("yes", "no"), ("true", "false"), ("right", "wrong"))
NameStyle = Literal["bare", "article", "the"]
NAME_STYLES: tuple[NameStyle, ...] = ("bare", "article", "the")

QUESTION_TYPES = ("what", "count", "colour", "where", "shelf", "kind", "present", "compare", "left", "right")
CAPTION_STYLES = 9


@dataclass(frozen=True, slots=True)
class Conventions:
    """How the annotators of one dataset write. `places` is by background, `shelves` by kind of object."""

    numbers: str = "digit"
    colours: str = "basic"
    name: NameStyle = "bare"
    yes_no: tuple[str, str] = ("yes", "no")
    places: Mapping[int, str] = field(default_factory=dict)
    shelves: Mapping[str, str] = field(default_factory=dict)
    caption: int = 0

    @classmethod
    def draw(cls, rng: Random) -> Conventions:
        """A new dataset: every convention drawn independently, every binding shuffled."""
        return cls(
            numbers=rng.choice(tuple(NUMBERS)),
            colours=rng.choice(tuple(COLOURS)),
            name=rng.choice(NAME_STYLES),
            yes_no=rng.choice(YES_NO),
            places=dict(enumerate(rng.sample(PLACES, len(BACKGROUNDS)))),
            shelves=dict(zip(kinds(), rng.choices(SHELVES, k=len(kinds())), strict=True)),
            caption=rng.randrange(CAPTION_STYLES),
        )


def name_of(concept: int, style: NameStyle = "bare") -> str:
    """`dog`, `a dog` or `the dog`."""
    name = concepts()[concept].name
    if style == "bare":
        return name
    return f"the {name}" if style == "the" else f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def caption(scene: Scene, conventions: Conventions) -> str:
    """One caption in the dataset's style."""
    names = [concepts()[c].name for c in scene.objects]
    number = NUMBERS[conventions.numbers][scene.count - 1]
    counted_names = f"{number} {names[0]}" if scene.layout == "group" else " and ".join(names)
    plain_names = " and ".join(names)
    colour = COLOURS[conventions.colours][scene.background]
    place = conventions.places.get(scene.background, "somewhere")
    kind = concepts()[scene.objects[0]].kind
    return (
        plain_names,
        f"{counted_names} on {colour}",
        f"a {colour} picture of {counted_names}",
        f"{colour} , {plain_names}",
        f"{counted_names} at the {place}",
        f"the {place} with {counted_names}",
        f"{plain_names} near the {place}",
        f"{kind} : {counted_names}",
        f"{counted_names}",
    )[conventions.caption]


@dataclass(frozen=True, slots=True)
class Asked:
    """A question about a scene, its type, and the answer in the dataset's convention."""

    type: str
    question: str
    answer: str


def ask(type: str, scene: Scene, conventions: Conventions, rng: Random, others: tuple[int, ...]) -> Asked | None:
    """A question of that type, or None if the scene does not fit it. `others`: objects for the answer no."""
    pair = scene.layout == "pair"
    first = scene.objects[0]
    yes, no = conventions.yes_no
    thing = "they" if pair or scene.count > 1 else "it"
    verb = "are" if thing == "they" else "is"
    if type == "colour":
        return Asked(type, "what color is the background?", COLOURS[conventions.colours][scene.background])
    if type == "where" and scene.background in conventions.places:
        return Asked(type, f"where {verb} {thing}?", conventions.places[scene.background])
    if type == "present":
        truth = rng.random() < 0.5
        absent_objects = [o for o in others if o not in scene.objects]
        if not truth and not absent_objects:
            return None
        object = rng.choice(scene.objects) if truth else rng.choice(absent_objects)
        return Asked(type, f"is there {name_of(object, 'article')}?", yes if truth else no)
    if pair:
        if type in ("left", "right"):
            side_object = scene.objects[0 if type == "left" else 1]
            return Asked(type, f"what is on the {type}?", name_of(side_object, conventions.name))
        if type == "compare":
            truth = rng.random() < 0.5
            a, b = scene.objects if truth else scene.objects[::-1]
            return Asked(type, f"is the {name_of(a)} left of the {name_of(b)}?", yes if truth else no)
        return None
    if type == "what":
        return Asked(type, f"what {verb} {thing}?", name_of(first, conventions.name))
    if type == "count":
        return Asked(type, f"how many {name_of(first)} are there?", NUMBERS[conventions.numbers][scene.count - 1])
    if type == "kind":
        return Asked(type, "what kind of thing is it?", concepts()[first].kind)
    if type == "shelf" and concepts()[first].kind in conventions.shelves:
        return Asked(type, "which shelf does it go on?", conventions.shelves[concepts()[first].kind])
    return None


def describe(scene: Scene, rng: Random, name: str = "") -> str:
    """A scene in words, for the language model's training on text: what it will later see. `name`: for its object's."""
    names = [name] if name else [concepts()[c].name for c in scene.objects]
    colour, number = COLOURS["basic"][scene.background], NUMBERS["word"][scene.count - 1]
    words = [f"{names[0]} left {names[1]} right", colour] if scene.layout == "pair" else [names[0], number, colour]
    rng.shuffle(words)
    return "".join(f" {w}" for w in words)


def vocabulary() -> tuple[str, ...]:
    """Every word of the world's texts, except held-out names, in a fixed order."""
    words: dict[str, None] = {}
    for concept in concepts():
        if not concept.held_out:
            words[concept.name] = None
    templates = (
        "a an the on picture of at with near and left right is are it they there how many what where which color kind "
        "thing does go shelf background somewhere"
    )
    for group in (
        *NUMBERS.values(),
        *COLOURS.values(),
        PLACES,
        SHELVES,
        NONSENSE,
        *YES_NO,
        kinds(),
        templates.split(),
        ("sign", "says", "moving", "up", "down", "still", "none"),
    ):
        words.update(dict.fromkeys(group))
    return tuple(words)
