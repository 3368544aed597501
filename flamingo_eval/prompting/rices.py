"""RICES (Flamingo v2 A.2, B.2.1): the demonstrations are the support examples most similar to the query.

The paper does not state the feature; here it is the mean of the frozen vision encoder's output over positions (and
over frames of a clip), L2-normalised, compared by dot product. `rices-text` compares texts by the mean of the language
model's frozen input embeddings; `rices-both` adds the two similarities with a weight, each standardised over the rows
that the query's shots come from. Where queries have pools of their own, neighbours come from the pool. The search is
exact. Ties go to the lower id, so the same support set always gives the same shots.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from flamingo_eval.config.settings import cache_bytes, cache_dir
from flamingo_eval.config.specs import RunSpec
from flamingo_eval.data.disk_store import trim
from flamingo_eval.data.media import content_hash
from flamingo_eval.errors import DataError, RunError
from flamingo_eval.prompting.demos import Ranking
from flamingo_eval.prompting.feature_store import FeatureStore
from flamingo_eval.prompting.support import Support, draw_support, pool_of
from flamingo_eval.records import Example, Media

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from flamingo_eval.runs.task_data import TaskData

SHARD_ROWS = 1024  # rows computed and written at a time; an interruption loses at most one shard
ATTEMPTS = 3  # attempts to rank while another process clears the cache
QUERY_ROWS = 1024  # queries that share one pass over the support set


class Encoder(Protocol):
    """The interface of a model for RICES: one L2-normalised float32[D] vector per picture, clip or text."""

    @property
    def sha256(self) -> str: ...

    def embed_media(self, media: Sequence[Media]) -> NDArray[np.float32]: ...

    def embed_text(self, texts: Sequence[str]) -> NDArray[np.float32]: ...


def nearest(
    queries: NDArray[np.float32], blocks: Iterator[tuple[int, NDArray[np.float32]]], k: int
) -> NDArray[np.int64]:
    """Indices int64[Q, <=k] of the k most similar rows, nearest first, exactly; equal similarity: lower index first.

    queries is float32[Q, D]. Memory is Q x (k + one block), independent of the number of rows: 1.3 million rows of 768
    and 1024 queries take 1.4 GB and 20 s on two cores. Most rows are rejected by one comparison with the k-th best so
    far.
    """
    best_value = np.full((len(queries), k), -np.inf, np.float32)
    best_index = np.full((len(queries), k), -1, np.int64)
    n_seen = 0
    for first, block in blocks:
        n_seen += len(block)
        similarity = queries @ block.T
        np.round(similarity, 5, out=similarity)  # so that the order does not depend on the blocks of the product
        if len(block) > k and not first:
            floor = np.partition(similarity, -k, axis=1)[:, -k]
        else:
            # a later row must be nearer than the k-th so far; ties go to the lower index
            floor = np.nextafter(best_value[:, -1], np.float32(np.inf))
        for query, row in enumerate(similarity):
            candidates = np.flatnonzero(row >= floor[query])
            if len(candidates):
                value = np.concatenate([best_value[query], row[candidates]])
                index = np.concatenate([best_index[query], candidates + first])
                order = np.argsort(-value, kind="stable")[:k]
                best_value[query], best_index[query] = value[order], index[order]
    return best_index[:, : min(k, n_seen)]


def ranking_of(
    spec: RunSpec,
    data: TaskData,
    encoder: Encoder,
    on_progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Ranking:
    """The ranking of `--demos rices`, `rices-text` and `rices-both` over the support set of a run.

    Similarities of all queries are computed block by block; each query keeps enough neighbours for its shots and the
    rows of its own picture.
    """
    if data.support is None:
        raise DataError(f"{spec.task.name}: {spec.demos.method} needs a support split, and the task has none.")
    support = draw_support(spec.task.name, data.support.name, data.support.examples, spec.demos)
    if spec.demos.method == "rices-both":
        return _joint_ranking(spec, data.queries.examples, support, encoder, on_progress)
    by_text = spec.demos.method == "rices-text"
    key_of = _text_key if by_text else _media_key
    folder = cache_dir() / "features"
    namespace = f"{'text' if by_text else 'media'} {encoder.sha256}"
    folder_of_features = folder / ("text" if by_text else "media") / encoder.sha256[:16]
    queries = data.queries.examples
    key_by_id = {id(e): key_of(e) for e in (*support.examples, *queries)}  # a picture's bytes are hashed once
    pools = support.pools
    n_own = max(
        _rows_per_media(support.examples).values()
    )  # up to this many of the nearest rows show the query's own picture
    single = not any("group" in e.labels for e in support.examples)
    n_neighbours = max(spec.demos.shots, spec.text_only_shots) + n_own

    def enough(query: Example, rows: int) -> int:
        return min(rows, n_neighbours) if single and "ways_shown" not in query.labels else rows

    def ranked(store: FeatureStore) -> dict[str, list[str]]:
        neighbours: dict[str, list[str]] = {}
        for part in _parts(queries):
            rows = pools.get(pool_of(part[0]), ())
            keys = [key_by_id[id(e)] for e in rows]
            query_features = np.concatenate([block for _, block in store.blocks([key_by_id[id(e)] for e in part])])
            nearest_rows = (
                nearest(query_features, store.blocks(keys), enough(part[0], len(keys))) if keys else [()] * len(part)
            )
            for query, row in zip(part, nearest_rows, strict=True):
                neighbours[query.id] = [rows[i].id for i in row]
        return neighbours

    for _ in range(ATTEMPTS):
        store = FeatureStore(folder_of_features, namespace)
        _fill(store, {key_by_id[id(e)]: e for e in (*support.examples, *queries)}, encoder, by_text, on_progress)
        try:
            neighbours = ranked(store)
        except FileNotFoundError:  # cleared or trimmed by another process
            continue
        trim(folder, cache_bytes())
        return lambda query: neighbours[query.id]
    raise _cleared(folder)


def _cleared(folder: Path) -> RunError:
    return RunError(
        f"{folder}: another process keeps clearing this cache.", fix="Set FLAMINGO_EVAL_CACHE to another folder."
    )


def _parts(queries: Sequence[Example]) -> Iterator[list[Example]]:
    """Queries of one pool, at most QUERY_ROWS of them at a time."""
    pools: dict[str, list[Example]] = {}
    for query in queries:
        pools.setdefault(pool_of(query), []).append(query)
    for members in pools.values():
        yield from (members[i : i + QUERY_ROWS] for i in range(0, len(members), QUERY_ROWS))


def _joint_ranking(
    spec: RunSpec,
    queries: Sequence[Example],
    support: Support,
    encoder: Encoder,
    on_progress: Callable[[int, int], None],
) -> Ranking:
    """All rows of a query's pool by weight x picture + (1 - weight) x text, both standardised over the pool."""
    weight = spec.demos.picture_weight
    all_examples = (*support.examples, *queries)
    keys = {"media": [_media_key(e) for e in all_examples], "text": [_text_key(e) for e in all_examples]}
    vectors: dict[str, dict[int, NDArray[np.float32]]] = {}
    folder = cache_dir() / "features"
    for kind, of_kind in keys.items():
        for attempt in range(ATTEMPTS):
            store = FeatureStore(folder / kind / encoder.sha256[:16], f"{kind} {encoder.sha256}")
            _fill(store, dict(zip(of_kind, all_examples, strict=True)), encoder, kind == "text", on_progress)
            try:
                rows = np.concatenate([block for _, block in store.blocks(of_kind)])
                break
            except FileNotFoundError:  # cleared or trimmed by another process
                if attempt == ATTEMPTS - 1:
                    raise _cleared(folder) from None
        vectors[kind] = {id(e): row for e, row in zip(all_examples, rows, strict=True)}
    trim(folder, cache_bytes())

    def ranking(query: Example) -> list[str]:
        pool = support.pools.get(pool_of(query), ())
        total = np.zeros(len(pool), np.float64)
        for kind, share in (("media", weight), ("text", 1 - weight)):
            of_pool = np.stack([vectors[kind][id(e)] for e in pool]).astype(np.float64)
            total += share * standardised(of_pool @ vectors[kind][id(query)].astype(np.float64))
        order = np.argsort(-np.round(total, 5), kind="stable")
        return [pool[i].id for i in order]

    by_id = {q.id: q for q in queries}
    return lambda query: ranking(by_id[query.id]) if support.pools.get(pool_of(query)) else []


def standardised(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Values with mean 0 and standard deviation 1; zeros if all are equal."""
    spread = float(np.round(values, 5).std())
    return (values - values.mean()) / spread if spread else np.zeros_like(values)


def _rows_per_media(examples: Sequence[Example]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for example in examples:
        counts[example.media_id] = counts.get(example.media_id, 0) + 1
    return counts


def text_of(example: Example) -> str:
    """The text for rices-text: the question, or all text that a prompt may show."""
    fields = example.fields
    return str(fields["question"]) if "question" in fields else " ".join(str(v) for v in fields.values())


def _text_key(example: Example) -> bytes:
    return hashlib.sha256(text_of(example).encode()).digest()


def _media_key(example: Example) -> bytes:
    if not example.media:
        raise DataError(f"example {example.id} has no picture to compare.")
    if len(example.media) == 1:
        return bytes.fromhex(content_hash(example.media[0]))
    return hashlib.sha256("".join(content_hash(m) for m in example.media).encode()).digest()


def _fill(
    store: FeatureStore,
    examples: Mapping[bytes, Example],
    encoder: Encoder,
    by_text: bool,
    on_progress: Callable[[int, int], None],
) -> None:
    """Compute the missing features, shard by shard."""
    missing = {key: e for key, e in examples.items() if key not in store}
    keys = list(missing)
    for first in range(0, len(keys), SHARD_ROWS):
        part = keys[first : first + SHARD_ROWS]
        rows = [missing[key] for key in part]
        if by_text:
            vectors = encoder.embed_text([text_of(e) for e in rows])
        else:
            vectors = encoder.embed_media([e.media[0] for e in rows])
        store.add(part, vectors)
        on_progress(first + len(part), len(keys))
