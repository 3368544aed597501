"""Queries -> prompts after prefill: pictures' features by content, common prefixes read once, long prompts unpadded."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from flamingo_eval.backends.hf.features import joined_features
from flamingo_eval.backends.hf.network import Network, Prefilled
from flamingo_eval.backends.hf.pieces import PIECE, SHORTEST, Piece, pieces
from flamingo_eval.backends.hf.prefix_cache import Prefix, PrefixCache, picture_tokens
from flamingo_eval.backends.hf.reader import Read
from flamingo_eval.backends.hf.vision import Pictures
from flamingo_eval.engine.batching import rounded_up
from flamingo_eval.records import Prompt

PACKED_TOKENS = 2048  # behind a prefix in one pass: each of them is masked from the other prompts' tokens
PACKED, ALONE = "packed", "alone"


@dataclass(frozen=True, slots=True)
class Query:
    """A prepared prompt: the model's inputs, its pictures, the token ids of its candidates.

    `step`: its length is padded to a multiple of it; `packed`: it is packed behind a prefix with others; `alone`: it is
    read with its pixels, because this family's clips are shown as videos without features.
    """

    index: int
    prompt: Prompt
    read: Read
    candidates: tuple[tuple[int, ...], ...] = ()
    step: int = 16
    packed: bool = False
    alone: bool = False

    @property
    def length(self) -> int:
        """Tokens of the prompt."""
        return len(self.read.ids)

    @property
    def padded(self) -> int:
        """Its length with padding before it."""
        return rounded_up(self.length, self.step)

    @property
    def shape(self) -> Hashable:
        """Prompts of one shape may share a batch."""
        return (ALONE, self.index) if self.alone else PACKED if self.packed else self.padded

    @property
    def cost(self) -> int:
        """Number of tokens that it uses of a batch; of a packed prompt the query's own, about one picture's share."""
        return self.length // max(len(self.prompt.media), 1) if self.packed else self.padded


class Prefiller:
    """Reads batches of queries with a model of transformers.

    `shares_prefixes`: the model may continue a copy of a prefix's cache; `packs`: it may continue the prefix's own;
    `in_pieces`: it may read a long prompt piece by piece.
    """

    def __init__(self, network: Network, pictures: Pictures, pad_id: int) -> None:
        self.network, self.pictures, self.pad_id = network, pictures, pad_id
        self.prefixes = PrefixCache(network, pad_id)
        self.shares_prefixes = self.packs = self.in_pieces = False

    def states(self, queries: Sequence[Query]) -> Iterator[tuple[list[int], Prefilled]]:
        """Prompts after prefill, as (places in `queries`, their state); a state ends with the next one."""
        if queries[0].alone:
            yield [0], self.network.prefill([queries[0].read], queries[0].length, self.pad_id)
            return
        features = [self.pictures.features_of(q.prompt) for q in queries]
        prefixes = [self._prefix(q, f) for q, f in zip(queries, features, strict=True)]
        for places in self._parts(queries, prefixes):
            reads, prefix = [queries[i].read for i in places], prefixes[places[0]]
            n_read = 0 if prefix is None else prefix.pictures
            behind = [f for i in places for f in features[i][n_read:]]
            joined = joined_features(behind) if behind else None
            state = None if prefix is None else self.prefixes.state(prefix, reads[0], features[places[0]])
            if state is not None and self.packs:
                yield places, self.network.prefill_packed(reads, joined, state)
                continue
            if state is None and self._is_long(queries[places[0]]):
                yield places, self.network.prefill_pieces(reads[0], self.pad_id, behind, self.pieces(reads[0], behind))
                continue
            if state is not None:
                state = state.rows(torch.zeros(len(places), dtype=torch.long, device=self.network.device))
            clips = self.pictures.clip_features([queries[i].prompt for i in places])
            yield places, self.network.prefill(reads, queries[places[0]].padded, self.pad_id, joined, state, clips)

    def _prefix(self, query: Query, features: Sequence[Any]) -> Prefix | None:
        if not (query.prompt.common_prefix and self.shares_prefixes):
            return None
        return self.prefixes.of(query.prompt, query.read, features, self.pictures.keys_of(query.prompt))

    def _is_long(self, query: Query) -> bool:
        whole = self.pictures.reader.shows_video(query.prompt)
        return self.in_pieces and query.length >= SHORTEST and not whole

    def pieces(self, read: Read, features: Sequence[Any], size: int | None = None) -> list[Piece]:
        """Where a prompt is divided; `features` of its pictures."""
        image_id = self.prefixes.image_id
        rows = [picture_tokens(f) for f in features]
        return (
            [Piece(len(read.ids), len(rows))] if image_id is None else pieces(read.ids, image_id, rows, size or PIECE)
        )

    def _parts(self, queries: Sequence[Query], prefixes: Sequence[Prefix | None]) -> list[list[int]]:
        """Places of the queries that are read in one pass: of one prefix, and packed or of one padded length."""
        groups: dict[Hashable, list[int]] = {}
        room: dict[Hashable, int] = {}
        parts: list[list[int]] = []
        for i, (query, prefix) in enumerate(zip(queries, prefixes, strict=True)):
            packed = prefix is not None and self.packs
            key = (None if prefix is None else prefix.key, PACKED if packed else query.padded)
            own = query.length - prefix.tokens if prefix is not None and packed else 0
            if key not in groups or own > room[key] or (prefix is None and self._is_long(query)):
                groups[key], room[key] = [], PACKED_TOKENS
                parts.append(groups[key])
            groups[key].append(i)
            room[key] -= own
        return parts
