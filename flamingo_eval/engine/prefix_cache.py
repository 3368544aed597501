"""Shared prefixes: the tokens that several prompts begin with, demonstrations included, are read once for all.

A prompt's prefix ends where its last picture begins: with fixed demonstrations it is everything but the query itself.
A prompt may state whether it is read as prefix and tail (`common_prefix`). Otherwise its neighbours in the order of the
prompts decide, never its batch. The two ways of reading agree up to rounding. A resumed run has other neighbours, so
prompts of runs must state it.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator
from dataclasses import replace

from flamingo_eval.engine.kv_slots import SlotCache
from flamingo_eval.engine.query import PrefixKey, Query

NEIGHBOURS = 8  # prompts before and after that are compared for a common prefix
SHORTEST = 32  # tokens; a shorter prefix is cheaper to read twice than to cache


def prefix_length(query: Query) -> int:
    """Number of tokens before the last picture of a prompt; 0 if there is no picture, or too few tokens before it."""
    image_of_token = query.encoded.image_of_token
    length = image_of_token.index(image_of_token[-1]) if image_of_token[-1] else 0
    return length if length >= SHORTEST else 0


def with_prefixes(queries: Iterable[Query]) -> Iterator[Query]:
    """The same prompts in the same order; those that share a prefix get its length in `prefix`."""
    recent: deque[PrefixKey] = deque(maxlen=NEIGHBOURS)
    ahead: deque[Query] = deque()
    for query in queries:
        ahead.append(replace(query, prefix=prefix_length(query)))
        if len(ahead) > NEIGHBOURS:
            yield _marked(ahead, recent)
    while ahead:
        yield _marked(ahead, recent)


def _marked(ahead: deque[Query], recent: deque[PrefixKey]) -> Query:
    query = ahead.popleft()
    key = query.prefix_key
    shared = query.common_prefix
    if shared is None:
        shared = query.prefix > 0 and (key in recent or any(q.prefix_key == key for q in ahead))
    recent.append(key)
    return query if shared else replace(query, prefix=0)


class PrefixCache:
    """Keys and values of the prefixes used last, up to `columns` columns in total."""

    def __init__(self, columns: int) -> None:
        self.columns = columns
        self._kept: OrderedDict[PrefixKey, SlotCache] = OrderedDict()

    def get(self, key: PrefixKey) -> SlotCache | None:
        """The cached keys and values of a prefix; None if it is not in the cache."""
        if key in self._kept:
            self._kept.move_to_end(key)
        return self._kept.get(key)

    def put(self, key: PrefixKey, prefix: SlotCache) -> None:
        """Store a prefix; the least recently used ones are dropped to make room."""
        self._kept[key] = prefix
        while len(self._kept) > 1 and sum(h.length for h in self._kept.values()) > self.columns:
            self._kept.popitem(last=False)

    def clear(self) -> None:
        """Drop all prefixes, when memory runs short."""
        self._kept.clear()
