"""The dials of fresh tasks: one small record per task, with small defaults, and the official sizes.

A dial changes only what it names: the keys of all draws are seed, task and number, so two copies that differ in one
dial show the same episodes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import ClassVar, TypeAlias

from flamingo_eval.errors import UsageError, did_you_mean

FAST_BINDING_NAMES = 64  # number of nonsense words


def at_least(dials: object, **limits: int) -> None:
    """Raises ValueError that names the dial below its limit."""
    for name, limit in limits.items():
        if getattr(dials, name) < limit:
            raise ValueError(f"{name} must be at least {limit}, got {getattr(dials, name)}")


def at_most(dials: object, **limits: int) -> None:
    """Raises ValueError that names the dial above its limit."""
    for name, limit in limits.items():
        if getattr(dials, name) > limit:
            raise ValueError(f"{name} must be at most {limit}, got {getattr(dials, name)}")


def shares(dials: object, *names: str) -> None:
    """Raises ValueError that names the dial that is not between 0 and 1."""
    for name in names:
        if not 0 <= getattr(dials, name) <= 1:
            raise ValueError(f"{name} must be between 0 and 1, got {getattr(dials, name)}")


@dataclass(frozen=True, slots=True)
class OpenMiDials:
    """Fast binding: nonsense names for objects that no training of the bundled model has shown."""

    official: ClassVar[Mapping[str, int]] = {"queries": 200}

    queries: int = 48
    ways: int = 2  # names in a round
    classes: int = 5  # names of a query
    pictures: int = 5  # of each class: the largest number of shots
    concepts: int = 58  # objects of the whole task
    distractors: int = 0  # smaller objects next to the named one
    occlusion: float = 0.0  # share of the object that is cut away
    noise: float = 0.05  # of the pixels, of the full range
    similarity: float = 0.0  # share of a query's classes that are of one kind (animals, tools, ...)

    def __post_init__(self) -> None:
        at_least(self, queries=1, ways=1, classes=2, pictures=1, concepts=2, distractors=0)
        at_most(self, classes=min(self.concepts, FAST_BINDING_NAMES), ways=self.classes, concepts=58, distractors=4)
        shares(self, "occlusion", "noise", "similarity")


@dataclass(frozen=True, slots=True)
class ClevrDials:
    """Counting by attribute: solids in two sizes, three shapes, two materials and eight colours."""

    official: ClassVar[Mapping[str, int]] = {"queries": 200, "support": 800}

    queries: int = 48
    support: int = 96
    objects: int = 8  # at most, in one picture
    noise: float = 0.0

    def __post_init__(self) -> None:
        at_least(self, queries=1, support=1, objects=2)
        at_most(self, objects=12)
        shares(self, "noise")


@dataclass(frozen=True, slots=True)
class OperatorDials:
    """Two digits and a question mark; the operator must be inferred from the results."""

    official: ClassVar[Mapping[str, int]] = {"pairs": 20}

    pairs: int = 20  # of the 100 pairs of digits: each is asked with +, - and x; the others are the support
    noise: float = 0.0

    def __post_init__(self) -> None:
        at_least(self, pairs=1)
        at_most(self, pairs=90)
        shares(self, "noise")


@dataclass(frozen=True, slots=True)
class TextDials:
    """A text in a red box among others."""

    official: ClassVar[Mapping[str, int]] = {"queries": 200, "support": 800}

    queries: int = 48
    support: int = 96
    letters: int = 8  # at most, in a text
    distractors: int = 3  # texts outside the box
    periods: float = 0.1  # share of texts with a period in them
    noise: float = 0.0

    def __post_init__(self) -> None:
        at_least(self, queries=1, support=1, letters=1, distractors=0)
        at_most(self, letters=12, distractors=5)
        shares(self, "periods", "noise")


@dataclass(frozen=True, slots=True)
class MatchingDials:
    """Pairs of pictures: do both show the same object?"""

    official: ClassVar[Mapping[str, int]] = {"queries": 400, "support": 1600}

    queries: int = 48
    support: int = 48
    distractors: int = 0
    occlusion: float = 0.0
    noise: float = 0.05
    similarity: float = 0.0  # share of the pairs that do not match whose objects are of one kind

    def __post_init__(self) -> None:
        at_least(self, queries=1, support=1, distractors=0)
        at_most(self, distractors=4)
        shares(self, "occlusion", "noise", "similarity")


Dials: TypeAlias = OpenMiDials | ClevrDials | OperatorDials | TextDials | MatchingDials

DIALS: dict[str, Dials] = {
    "vl_icl_open_mi": OpenMiDials(),
    "vl_icl_clevr": ClevrDials(),
    "vl_icl_operator_induction": OperatorDials(),
    "vl_icl_operator_induction_interleaved": OperatorDials(),
    "vl_icl_textocr": TextDials(),
    "vl_icl_matching_mi": MatchingDials(),
}


def set_dials(task: str, words: Mapping[str, str], official_size: bool = False) -> Dials | None:
    """The dials of a task with the changes in `words`; None for a task without dials.

    Raises UsageError for an unknown dial or an invalid value.
    """
    dials = DIALS.get(task)
    if dials is None:
        if words:
            raise UsageError(f"{task} has no dials ({', '.join(words)}).", fix=f"Tasks with dials: {', '.join(DIALS)}.")
        return None
    types_of = {f.name: type(getattr(dials, f.name)) for f in fields(dials)}
    values: dict[str, int | float] = dict(dials.official) if official_size else {}
    for name, word in words.items():
        if name not in types_of:
            hint = did_you_mean(name, types_of)
            raise UsageError(f"{task} has no dial '{name}'. {hint}".rstrip(), fix=f"It has: {', '.join(types_of)}.")
        try:
            values[name] = types_of[name](word)
        except ValueError:
            kind = "an integer" if types_of[name] is int else "a number"
            raise UsageError(f"dial {name}={word}: expected {kind}.") from None
    try:
        return replace(dials, **values)  # type: ignore[arg-type]
    except ValueError as error:
        raise UsageError(f"{task}: dial {error}.") from None


def spelled(task: str, dials: Dials) -> str:
    """The dials that differ from the task's defaults: `occlusion=0.4,ways=3`, in the record's order."""
    default = asdict(DIALS[task])
    return ",".join(f"{name}={value}" for name, value in asdict(dials).items() if value != default[name])
