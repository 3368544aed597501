from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from flamingo_eval.engine.batching import Limits, batches, drawn_ahead, rounded_up


@dataclass(frozen=True)
class Item:
    index: int
    shape: int
    cost: int


SHAPES = st.lists(st.integers(1, 4), max_size=60)


@given(SHAPES, st.integers(1, 5), st.integers(4, 30), st.integers(1, 20))
@settings(max_examples=80, deadline=None)
def test_every_prompt_is_in_one_batch_within_the_limits(shapes: list[int], rows: int, budget: int, window: int) -> None:
    items = [Item(i, shape, shape) for i, shape in enumerate(shapes)]
    made_batches = list(batches(items, Limits(rows, budget, window)))
    assert sorted(i.index for b in made_batches for i in b) == list(range(len(items)))
    for batch in made_batches:
        assert len({i.shape for i in batch}) == 1
        assert len(batch) <= rows
        assert sum(i.cost for i in batch) <= budget


def test_no_more_than_the_window_is_held() -> None:
    taken = 0

    def items() -> Iterator[Item]:
        nonlocal taken
        for i in range(1000):
            taken += 1
            yield Item(i, i % 7, 1)

    given_out = 0
    for batch in batches(items(), Limits(4, 100, 20)):
        assert taken - given_out <= 21
        given_out += len(batch)
    assert given_out == 1000


def test_a_prompt_beyond_the_budget_goes_alone() -> None:
    made_batches = list(batches([Item(0, 1, 5), Item(1, 1, 500), Item(2, 1, 5)], Limits(8, 100, 8)))
    assert [[i.index for i in b] for b in made_batches] == [[0], [1], [2]]


def test_limits_may_shrink_on_the_way() -> None:
    limits = Limits(4, 100, 100)
    sizes = []
    for batch in batches((Item(i, 0, 1) for i in range(10)), limits):
        sizes.append(len(batch))
        limits.rows = 2
    assert sizes == [4, 2, 2, 2]


def test_lengths_are_rounded_up() -> None:
    assert [rounded_up(n) for n in (0, 1, 8, 9)] == [0, 8, 8, 16]


@given(st.lists(st.integers(), max_size=20), st.integers(0, 8))
def test_drawn_ahead_keeps_the_order_and_its_distance(items: list[int], n: int) -> None:
    drawn: list[int] = []

    def source() -> Iterator[int]:
        for item in items:
            drawn.append(item)
            yield item

    given_out = []
    for item in drawn_ahead(source(), n):
        given_out.append(item)
        assert len(drawn) == min(len(given_out) + n, len(items))
    assert given_out == items
