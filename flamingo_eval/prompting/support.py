"""The support set: which rows shots are drawn from, and what one shot is.

A shot is one row of the support set, or several rows that are shown together in a fixed order. Labels of the rows
select special cases, which only this module knows:

    pool         (query, support)  the query's shots come from the support rows of this pool
    answers      (support)         the row's answers by key; the query's `answer_key` chooses one
    group        (support)         rows of one group are one shot, in the order of their ids
    ways_shown   (query)           a shot is a round over this many answers: the query's own and others of its pool
    order_each_round (query)       those rounds have an order of their own each, instead of one for all of them
    demonstrations   (query)       ids of the rows that come with the query: its shots, in this order and no others
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from random import Random
from typing import TypeAlias, TypeVar

from flamingo_eval.config.specs import DemoSpec
from flamingo_eval.records import Example

_Item = TypeVar("_Item")
Shot: TypeAlias = tuple[Example, ...]  # rows that are shown together, in this order
Given = Callable[[Example, DemoSpec], Sequence[str]]  # query, spec -> ids of the rows shown, in the prompt's order
FEWER_NOTE = "shots"  # key of a score's note that queries have fewer demonstrations than requested
KEYED = frozenset(("pool", "group", "ways_shown"))  # labels that decide how many shots a query can get


@dataclass(frozen=True)
class Support:
    """The support set: the examples that shots are drawn from, one per seed (Flamingo v2 B.1.4)."""

    task: str
    split: str
    examples: tuple[Example, ...]  # sorted by id, so that the file's order does not matter
    given: Given | None = None  # for fixed demonstrations
    usable: Callable[[Example], bool] | None = (
        None  # examples that cannot be shown are replaced by the next of the draw
    )
    candidates: tuple[str, ...] = ()  # close-ended with one list for all rows

    @cached_property
    def pools(self) -> Mapping[str, tuple[Example, ...]]:
        """Examples by the pool they belong to; "" for the usual case of one support set for all queries."""
        pools: dict[str, list[Example]] = {}
        for example in self.examples:
            pools.setdefault(pool_of(example), []).append(example)
        return {name: tuple(examples) for name, examples in pools.items()}

    @cached_property
    def permutations(self) -> dict[str, Sequence[int]]:
        """Kept for relabelling.py: the new index of every candidate, by key."""
        return {}

    @cached_property
    def new_names(self) -> dict[str, Mapping[str, str]]:
        """Kept for relabelling.py: the new text of every answer, by key."""
        return {}

    @cached_property
    def rows_of(self) -> Mapping[tuple[str, str], int]:
        """How many rows a picture or clip has, by pool and media_id."""
        rows: dict[tuple[str, str], int] = {}
        for example in self.examples:
            key = (pool_of(example), example.media_id)
            rows[key] = rows.get(key, 0) + 1
        return rows

    @cached_property
    def by_id(self) -> Mapping[str, Example]:
        return {e.id: e for e in self.examples}

    def can_show(self, shot: Shot) -> bool:
        """Whether every row of a shot can be shown; checked in the order of the draw, so that others do not move."""
        return self.usable is None or all(map(self.usable, shot))

    def pool(self, query: Example) -> tuple[Example, ...]:
        """The rows for a query's shots, with their answers for this query."""
        return self._pool(pool_of(query), str(query.labels.get("answer_key", "")))

    def shots(self, query: Example, seed: int) -> tuple[Shot, ...]:
        """What can be drawn for a query: single rows, groups, the rounds drawn for it, or its own rows."""
        ids = brought(query)
        if ids is not None:
            rows = {e.id: e for e in self.pool(query)}
            return tuple((rows[id],) for id in ids if id in rows)
        ways = query.labels.get("ways_shown")
        if isinstance(ways, int):
            return _rounds(self.pool(query), query, ways, f"{seed}:{self.task}:{query.id}:ways")
        return self._grouped(pool_of(query), str(query.labels.get("answer_key", "")))

    def shot_by_id(self, query: Example, seed: int) -> Mapping[str, Shot]:
        """The shot of a row, by the row's id, among the shots that can be drawn for a query."""
        shots = self.shots(query, seed)
        if in_own_order(query):
            return {e.id: shot for shot in shots for e in shot}
        key = (pool_of(query), str(query.labels.get("answer_key", "")))
        if key not in self._shot_by_id:
            self._shot_by_id[key] = {e.id: shot for shot in shots for e in shot}
        return self._shot_by_id[key]

    def answers(self, query: Example) -> tuple[str, ...]:
        """The distinct answers of the support set, in order; those of the query's pool, if there are pools."""
        return self._answers_of(self.pool(query)) if "answer_key" in query.labels else self._all_answers

    @cached_property
    def _all_answers(self) -> tuple[str, ...]:
        return self._answers_of(self.examples)

    @staticmethod
    def _answers_of(examples: Sequence[Example]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(e.answer for e in examples))

    @cached_property
    def _resolved(self) -> dict[tuple[str, str], tuple[Example, ...]]:
        return {}

    @cached_property
    def _shots(self) -> dict[tuple[str, str], tuple[Shot, ...]]:
        return {}

    @cached_property
    def _shot_by_id(self) -> dict[tuple[str, str], dict[str, Shot]]:
        return {}

    def _pool(self, name: str, answer_key: str) -> tuple[Example, ...]:
        key = (name, answer_key)
        if key not in self._resolved:
            rows = (e for e in self.pools.get(name, ()) if has_answer_under(e, answer_key))
            self._resolved[key] = tuple(shown_under(e, answer_key) for e in rows)
        return self._resolved[key]

    def _grouped(self, name: str, answer_key: str) -> tuple[Shot, ...]:
        key = (name, answer_key)
        if key not in self._shots:
            groups: dict[str, list[Example]] = {}
            for example in self._pool(name, answer_key):
                groups.setdefault(group_of(example), []).append(example)
            self._shots[key] = tuple(map(tuple, groups.values()))
        return self._shots[key]


def group_of(example: Example) -> str:
    """The key that rows of one shot share; a row without a group is a shot by itself."""
    return f"group {example.labels['group']}" if "group" in example.labels else f"row {example.id}"


def brought(query: Example) -> tuple[str, ...] | None:
    """Ids of the demonstrations that come with a query, in their order; None where its shots are drawn."""
    ids = query.labels.get("demonstrations")
    return tuple(map(str, ids)) if isinstance(ids, tuple) else None


def most_brought(queries: Sequence[Example]) -> int | None:
    """The largest number of demonstrations of a query; None if shots are drawn."""
    return max((len(ids) for query in queries if (ids := brought(query)) is not None), default=None)


def fewer_note(queries: Sequence[Example], shots: int) -> str:
    """Says how many of the queries have fewer demonstrations than requested; "" if none."""
    fewer = sum(len(ids) < shots for query in queries if (ids := brought(query)) is not None)
    return f"{fewer} of {len(queries)} queries have fewer demonstrations and show all of them" if fewer else ""


def in_own_order(query: Example) -> bool:
    """Whether a query's shots have an order already: rounds that were drawn, or demonstrations that come with it."""
    return "ways_shown" in query.labels or brought(query) is not None


def has_answer_under(example: Example, answer_key: str) -> bool:
    """Whether a row can be shown to queries with this `answer_key`: rows with one answer can be shown to any."""
    answers = example.labels.get("answers")
    return not isinstance(answers, Mapping) or answer_key in answers


def shown_under(example: Example, answer_key: str) -> Example:
    """The row with its answer for a query's `answer_key`; unchanged if it has only one answer."""
    answers = example.labels.get("answers")
    return replace(example, answer=answers[answer_key]) if isinstance(answers, Mapping) else example


def _rounds(pool: Sequence[Example], query: Example, ways: int, key: str) -> tuple[Shot, ...]:
    """Round i has the i-th row of `ways` answers: the query's and others drawn by `key`, in an order drawn by `key`."""
    rows: dict[str, list[Example]] = {}
    for example in pool:
        rows.setdefault(example.answer, []).append(example)
    other_answers = sorted(answer for answer in rows if answer != query.answer)
    round_answers = [
        query.answer,
        *(other_answers[i] for i, _ in zip(endless_draw(len(other_answers), key), range(ways - 1), strict=False)),
    ]
    order = [round_answers[i] for i in endless_draw(len(round_answers), f"{key}:order")]
    rounds = zip(*(rows.get(answer, []) for answer in order), strict=False)
    if not query.labels.get("order_each_round"):
        return tuple(rounds)
    return tuple(
        tuple(shot[i] for i in endless_draw(len(shot), f"{key}:order {number}")) for number, shot in enumerate(rounds)
    )


def pool_of(example: Example) -> str:
    """The pool of an example's shots, for tasks whose labels are valid only within an episode (fast binding)."""
    return str(example.labels.get("pool", ""))


def draw_support(task: str, split: str, examples: Sequence[Example], spec: DemoSpec) -> Support:
    """The support set of one seed: `support_size` shots, or `support_per_class` examples of each class.

    Pooled examples are all used: their pools are the support sets.
    """
    examples_by_id = sorted(examples, key=lambda e: e.id)
    if any("pool" in e.labels for e in examples_by_id):
        support = examples_by_id
    elif spec.support_per_class:
        support = []
        classes: dict[str, list[Example]] = {}
        for example in examples_by_id:
            classes.setdefault(example.answer, []).append(example)
        for name in sorted(classes):
            key = f"{spec.seed}:{task}:support:{name}"
            support += _first(classes[name], spec.support_per_class, key)
    elif spec.support_size and spec.support_size < len(examples_by_id):
        key = f"{spec.seed}:{task}:support"
        if any("group" in e.labels for e in examples_by_id):
            groups: dict[str, list[Example]] = {}
            for example in examples_by_id:
                groups.setdefault(group_of(example), []).append(example)
            support = [example for group in _first(list(groups.values()), spec.support_size, key) for example in group]
        else:
            support = _first(examples_by_id, spec.support_size, key)
    else:
        support = examples_by_id
    return Support(task, split, tuple(sorted(support, key=lambda e: e.id)))


def endless_draw(n: int, key: str) -> Iterator[int]:
    """0..n-1 in a random order fixed by `key`, one at a time: a lazy Fisher-Yates shuffle."""
    rng = Random(key)
    swapped: dict[int, int] = {}
    for i in range(n):
        j = i + int(rng.random() * (n - i))
        yield swapped.get(j, j)
        swapped[j] = swapped.get(i, i)


def _first(items: Sequence[_Item], n: int, key: str) -> list[_Item]:
    draw = endless_draw(len(items), key)
    return [items[i] for i, _ in zip(draw, range(min(n, len(items))), strict=False)]
