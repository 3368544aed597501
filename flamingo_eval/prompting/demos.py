"""Which shots a query gets. Pure, and keyed by what the draw is for: (seed, task, query id) and nothing else.

Order, --limit, batch size, resume and rank cannot change anybody's shots, because nothing is drawn from a running
generator. The k-shot demonstrations of a query are the first k of one endless draw, so they are contained in the
2k-shot ones, and a curve over shots compares like with like.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from random import Random

from flamingo_eval.config.specs import DemoSpec
from flamingo_eval.errors import PromptError
from flamingo_eval.records import Example

Ranking = Callable[[Example], Sequence[str]]  # query -> ids of support examples, nearest first


@dataclass(frozen=True)
class Support:
    """The examples that shots are drawn from, drawn once per seed from the support split (Flamingo v2 B.1.4)."""

    task: str
    split: str
    examples: tuple[Example, ...]  # sorted by id, so that the file's order has no say

    @cached_property
    def pools(self) -> Mapping[str, tuple[Example, ...]]:
        """Examples by the pool they belong to; "" for the usual case of one support set for all queries."""
        pools: dict[str, list[Example]] = {}
        for example in self.examples:
            pools.setdefault(pool_of(example), []).append(example)
        return {name: tuple(examples) for name, examples in pools.items()}

    @cached_property
    def by_id(self) -> Mapping[str, Example]:
        return {e.id: e for e in self.examples}


def pool_of(example: Example) -> str:
    """Tasks whose labels mean something within one episode only (fast binding) name the pool their shots come from."""
    return str(example.labels.get("pool", ""))


def draw_support(task: str, split: str, examples: Sequence[Example], spec: DemoSpec) -> Support:
    """The support set of one seed: `support_size` examples, or `support_per_class` of each class.

    Pooled examples are never thinned out: their pools are the support.
    """
    ordered = sorted(examples, key=lambda e: e.id)
    if any("pool" in e.labels for e in ordered):
        chosen = ordered
    elif spec.support_per_class:
        chosen = []
        classes: dict[str, list[Example]] = {}
        for example in ordered:
            classes.setdefault(example.answer, []).append(example)
        for name in sorted(classes):
            key = f"{spec.seed}:{task}:support:{name}"
            chosen += _first(classes[name], spec.support_per_class, key)
    elif spec.support_size and spec.support_size < len(ordered):
        chosen = _first(ordered, spec.support_size, f"{spec.seed}:{task}:support")
    else:
        chosen = ordered
    return Support(task, split, tuple(sorted(chosen, key=lambda e: e.id)))


def random_demos(query: Example, support: Support, spec: DemoSpec) -> tuple[Example, ...]:
    """`spec.shots` demonstrations drawn without replacement, in the order drawn; never the query's own picture."""
    pool = support.pools.get(pool_of(query), ())
    shots: list[Example] = []
    if spec.shots:
        for index in endless_draw(len(pool), f"{spec.seed}:{support.task}:{query.id}"):
            if pool[index].media_id != query.media_id:
                shots.append(pool[index])
                if len(shots) == spec.shots:
                    break
    return _enough(shots, query, support, spec)


def balanced_demos(query: Example, support: Support, spec: DemoSpec) -> tuple[Example, ...]:
    """As random_demos, but every answer comes up equally often: in each round of the draw, each answer once.

    With shots = n x answers, every answer is shown n times ("n a way"); the rounds are nested over shots.
    """
    pool = support.pools.get(pool_of(query), ())
    answers = sorted({e.answer for e in pool})
    key = f"{spec.seed}:{support.task}:{query.id}:balanced"
    shelves = {a: [e for e in pool if e.answer == a and e.media_id != query.media_id] for a in answers}
    draws = {a: endless_draw(len(shelves[a]), f"{key}:{a}") for a in answers}
    shots: list[Example] = []
    for round_ in range(spec.shots):
        order = list(answers)
        Random(f"{key}:round {round_}").shuffle(order)
        for answer in order:
            index = next(draws[answer], None)
            if index is not None and len(shots) < spec.shots:
                shots.append(shelves[answer][index])
        if len(shots) == spec.shots:
            break
    return _enough(shots, query, support, spec)


def fixed_demos(query: Example, support: Support, spec: DemoSpec) -> tuple[Example, ...]:
    """The same demonstrations for every query of a seed; one whose picture is the query's own gives way to the next."""
    pool = support.pools.get(pool_of(query), ())
    order = endless_draw(len(pool), f"{spec.seed}:{support.task}:fixed")
    shots: list[Example] = []
    for index in order:
        if len(shots) == spec.shots:
            break
        if pool[index].media_id != query.media_id:
            shots.append(pool[index])
    return _enough(shots, query, support, spec)


def ranked_demos(query: Example, support: Support, spec: DemoSpec, ranking: Ranking) -> tuple[Example, ...]:
    """RICES (Flamingo v2 A.2): the nearest support examples, nearest LAST, next to the query."""
    shots: list[Example] = []
    for id in ranking(query):
        if len(shots) == spec.shots:
            break
        if support.by_id[id].media_id != query.media_id:
            shots.append(support.by_id[id])
    return tuple(reversed(_enough(shots, query, support, spec)))


def endless_draw(n: int, key: str) -> Iterator[int]:
    """0..n-1 in a random order fixed by `key`, one at a time: a Fisher-Yates shuffle, as far as it is asked for."""
    rng = Random(key)
    moved: dict[int, int] = {}
    for i in range(n):
        j = i + int(rng.random() * (n - i))
        yield moved.get(j, j)
        moved[j] = moved.get(i, i)


def _first(examples: Sequence[Example], n: int, key: str) -> list[Example]:
    draw = endless_draw(len(examples), key)
    return [examples[i] for i, _ in zip(draw, range(min(n, len(examples))), strict=False)]


def _enough(shots: Sequence[Example], query: Example, support: Support, spec: DemoSpec) -> tuple[Example, ...]:
    if len(shots) == spec.shots:
        return tuple(shots)
    pool = support.pools.get(pool_of(query), ())
    pictures = len({e.media_id for e in pool})
    raise PromptError(
        f"{support.task}: {spec.shots} shots asked, but only {len(shots)} demonstrations can go with query {query.id}: "
        f"the support set from split '{support.split}' has {len(pool)} rows on {pictures} pictures, and the query's "
        f"own picture is never shown.",
        fix=f"Lower --shots to {len(shots)} or less, or give more support data.",
    )
