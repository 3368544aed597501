from __future__ import annotations

import dataclasses

import pytest
import torch

from flamingo_eval.engine.kv_slots import SlotCache
from flamingo_eval.engine.prefix_cache import NEIGHBOURS, SHORTEST, PrefixCache, prefix_length, with_prefixes
from flamingo_eval.engine.query import Query
from flamingo_eval.models.tokenizer import Encoded
from flamingo_eval.records import Image
from tests.support.small_flamingo import SMALL


def query(index: int, prefix: int, picture: str = "shot") -> Query:
    """One demonstration of `prefix` tokens, then the query's own picture."""
    media = (Image(picture), Image(f"own {index}"))
    return Query(index, f"q{index}", Encoded((7,) * prefix + (8,) * 4, (1,) * prefix + (2,) * 4, media), 0)


def marks(queries: list[Query]) -> list[int]:
    return [q.prefix for q in with_prefixes(queries)]


def test_a_prefix_ends_where_the_last_picture_begins() -> None:
    assert prefix_length(query(0, 40)) == 40
    assert prefix_length(query(0, SHORTEST - 1)) == 0
    assert prefix_length(Query(0, "", Encoded((1,) * 50, (0,) * 50, ()), 0)) == 0


def test_prompts_that_begin_alike_are_marked() -> None:
    assert marks([query(i, 40) for i in range(3)]) == [40, 40, 40]
    assert marks([query(i, 40, picture=str(i)) for i in range(3)]) == [0, 0, 0]
    assert marks([query(0, 40), query(1, 41), query(2, 40)]) == [40, 0, 40]
    assert marks([query(0, 40)]) == [0]


@pytest.mark.parametrize(("distance", "expected"), [(NEIGHBOURS, 40), (NEIGHBOURS + 1, 0)])
def test_only_neighbours_are_asked(distance: int, expected: int) -> None:
    between = [query(i, 40, picture=str(i)) for i in range(1, distance)]
    marked = marks([query(0, 40), *between, query(distance, 40)])
    assert (marked[0], marked[-1]) == (expected, expected)


def test_what_a_prompt_says_counts_more_than_its_neighbours() -> None:
    def said(common: bool) -> list[Query]:
        return [dataclasses.replace(query(i, 40), common_prefix=common) for i in range(2)]

    assert marks(said(True)[:1]) == [40]
    assert marks(said(False)) == [0, 0]


def test_order_and_number_stay() -> None:
    queries = [query(i, 40 + i % 2) for i in range(30)]
    assert [q.index for q in with_prefixes(queries)] == list(range(30))


def test_heads_not_used_for_longest_make_room() -> None:
    prefixes = PrefixCache(columns=100)
    keys = [((i,), ()) for i in range(3)]
    for key in keys:
        cache = SlotCache(SMALL.decoder, 1, 40, torch.device("cpu"), torch.float32)
        cache.extend_positions(torch.arange(40)[None])
        prefixes.put(key, cache)
        prefixes.get(keys[0])
    assert [prefixes.get(key) is not None for key in keys] == [True, False, True]
    prefixes.clear()
    assert prefixes.get(keys[0]) is None
