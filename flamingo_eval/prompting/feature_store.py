"""Features for RICES (Flamingo v2 A.2, B.2.1): computed once per picture, kept on disk, searched exactly.

The paper does not say which feature; here it is the mean of the frozen vision encoder's output over positions (and
over frames of a clip), L2-normalised, compared by dot product. `rices-text` compares texts by the mean of the language
model's frozen input embeddings. Ties go to the lower id, so the same support set always gives the same shots.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from flamingo_eval.config.settings import cache_bytes, cache_dir, cache_error
from flamingo_eval.config.specs import RunSpec
from flamingo_eval.data.media import content_hash
from flamingo_eval.errors import DataError, RunError
from flamingo_eval.prompting.demos import Ranking, draw_support
from flamingo_eval.records import Example, Media

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from flamingo_eval.runs.runner import TaskData

SHARD_ROWS = 1024  # rows computed and written at a time: what an interruption can cost
SEARCH_ROWS = 65_536  # rows of the support set held in memory at a time while searching
ATTEMPTS = 3  # to rank, where another process clears the cache meanwhile
QUERY_ROWS = 1024  # queries that share one pass over the support set

log = logging.getLogger(__name__)


class Encoder(Protocol):
    """What RICES needs of a model: one L2-normalised float32[D] vector a picture, clip or text."""

    @property
    def sha256(self) -> str: ...

    def embed_media(self, media: Sequence[Media]) -> NDArray[np.float32]: ...

    def embed_text(self, texts: Sequence[str]) -> NDArray[np.float32]: ...


class FeatureStore:
    """Vectors by key in append-only shards below a folder; each shard is written whole and then renamed.

    Several processes may share it: a vector computed twice is harmless. A shard that cannot be read, or whose digest
    does not fit, is dropped and its vectors are computed again.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._where: dict[bytes, tuple[Path, int]] = {}
        if folder.is_dir():
            for path in sorted(folder.glob("*.safetensors")):
                self._add(path)

    def __len__(self) -> int:
        return len(self._where)

    def __contains__(self, key: bytes) -> bool:
        return key in self._where

    def _add(self, path: Path) -> None:
        try:
            with safe_open(path, framework="numpy") as shard:
                keys, vectors = shard.get_tensor("keys"), shard.get_tensor("vectors")
                digest = (shard.metadata() or {}).get("sha256", "")
        except FileNotFoundError:
            return  # another process has just trimmed it away
        except (SafetensorError, OSError, TypeError):
            digest, keys, vectors = "", np.empty((0, 32), np.uint8), np.empty((0, 0), np.float16)
        if digest != _digest(keys, vectors):
            log.warning("%s: a feature file is damaged; its features are computed again", path.name)
            path.unlink(missing_ok=True)
            return
        for row, key in enumerate(keys):
            self._where.setdefault(key.tobytes(), (path, row))

    def add(self, keys: Sequence[bytes], vectors: NDArray[np.float32]) -> None:
        """Write one shard: vectors float32[N, D], kept as float16. Raises RunError where it cannot be written."""
        rows = np.frombuffer(b"".join(keys), np.uint8).reshape(len(keys), 32)
        kept = vectors.astype(np.float16)
        name = hashlib.sha256(rows.tobytes()).hexdigest()[:24]
        path = self.folder / f"{name}.safetensors"
        temporary = path.with_name(f".{name}.{os.getpid()}.tmp")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            save_file({"keys": rows, "vectors": kept}, temporary, {"sha256": _digest(rows, kept)})
            os.replace(temporary, path)
        except (OSError, SafetensorError) as error:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise cache_error(self.folder, error) from error
        for row, key in enumerate(keys):
            self._where.setdefault(key, (path, row))

    def blocks(self, keys: Sequence[bytes], rows: int = SEARCH_ROWS) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """The vectors of `keys` in their order, as (first index, float32[<=rows, D]); one block in memory at a time."""
        for first in range(0, len(keys), rows):
            wanted = keys[first : first + rows]
            by_shard: dict[Path, list[tuple[int, int]]] = {}
            for i, key in enumerate(wanted):
                path, row = self._where[key]
                by_shard.setdefault(path, []).append((i, row))
            block: NDArray[np.float32] | None = None
            for path, places in by_shard.items():
                with safe_open(path, framework="numpy") as shard:
                    vectors = shard.get_tensor("vectors")
                with contextlib.suppress(FileNotFoundError):
                    os.utime(path)  # used last
                if block is None:
                    block = np.empty((len(wanted), vectors.shape[1]), np.float32)
                here, there = zip(*places, strict=True)
                block[list(here)] = vectors[list(there)]
            if block is not None:
                yield first, block


def trim(folder: Path, limit: int) -> None:
    """Delete the shards below a folder that were used longest ago until the rest holds at most `limit` bytes.

    A process that still needs one computes it again.
    """
    shards = []
    for path in folder.rglob("*.safetensors"):
        with contextlib.suppress(FileNotFoundError):  # another process trims too
            stat = path.stat()
            shards.append((stat.st_mtime_ns, stat.st_size, path))
    held = sum(size for _, size, _ in shards)
    for _, size, path in sorted(shards):
        if held <= limit:
            break
        path.unlink(missing_ok=True)
        held -= size


def _digest(keys: NDArray[np.uint8], vectors: NDArray[np.float16]) -> str:
    return hashlib.sha256(keys.tobytes() + vectors.tobytes()).hexdigest()


def nearest(
    queries: NDArray[np.float32], blocks: Iterator[tuple[int, NDArray[np.float32]]], k: int
) -> NDArray[np.int64]:
    """Indices int64[Q, <=k] of the k most similar rows, nearest first, exactly; equal similarity: lower index first.

    queries is float32[Q, D]. Memory is Q x (k + one block), whatever the number of rows: 1.3 million rows of
    768 and 1024 queries take 1.4 GB and 20 s on two cores. All but a few rows fall to one comparison with the k-th best
    so far.
    """
    best_value = np.full((len(queries), k), -np.inf, np.float32)
    best_index = np.full((len(queries), k), -1, np.int64)
    seen = 0
    for first, block in blocks:
        seen += len(block)
        similarity = queries @ block.T
        np.round(similarity, 5, out=similarity)  # so that the order does not depend on how the product was blocked
        if len(block) > k and not first:
            floor = np.partition(similarity, -k, axis=1)[:, -k]
        else:
            # a later row must be nearer than the k-th so far: on equal similarity the lower index stays
            floor = np.nextafter(best_value[:, -1], np.float32(np.inf))
        for query, row in enumerate(similarity):
            here = np.flatnonzero(row >= floor[query])
            if len(here):
                value = np.concatenate([best_value[query], row[here]])
                index = np.concatenate([best_index[query], here + first])
                order = np.argsort(-value, kind="stable")[:k]
                best_value[query], best_index[query] = value[order], index[order]
    return best_index[:, : min(k, seen)]


def ranking_of(
    spec: RunSpec,
    data: TaskData,
    encoder: Encoder,
    on_progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Ranking:
    """The ranking that `--demos rices` or `rices-text` asks for, over the support set of the run.

    Similarities of all queries are computed block by block; each query keeps as many neighbours as its shots and the
    rows of its own picture can need.
    """
    if data.support is None:
        raise DataError(f"{spec.task.name}: {spec.demos.method} needs a support split, and the task has none.")
    support = draw_support(spec.task.name, data.support.name, data.support.examples, spec.demos)
    by_text = spec.demos.method == "rices-text"
    key_of = _text_key if by_text else _media_key
    folder = cache_dir() / "features"
    place = folder / ("text" if by_text else "media") / encoder.sha256[:16]
    queries = data.queries.examples
    key_by_id = {id(e): key_of(e) for e in (*support.examples, *queries)}  # a picture's bytes are hashed once
    keys = [key_by_id[id(e)] for e in support.examples]
    own = max(_rows_per_media(support.examples).values())  # so many nearest rows can be the query's own picture
    k = min(len(keys), max(spec.demos.shots, spec.text_only_shots) + own)

    def ranked(store: FeatureStore) -> dict[str, list[str]]:
        neighbours: dict[str, list[str]] = {}
        for first in range(0, len(queries), QUERY_ROWS):
            part = queries[first : first + QUERY_ROWS]
            wanted = np.concatenate([block for _, block in store.blocks([key_by_id[id(e)] for e in part])])
            for query, row in zip(part, nearest(wanted, store.blocks(keys), k), strict=True):
                neighbours[query.id] = [support.examples[i].id for i in row]
        return neighbours

    for _ in range(ATTEMPTS):
        store = FeatureStore(place)
        _fill(store, {key_by_id[id(e)]: e for e in (*support.examples, *queries)}, encoder, by_text, on_progress)
        try:
            neighbours = ranked(store)
        except FileNotFoundError:  # cleared or trimmed by another process
            continue
        trim(folder, cache_bytes())
        return lambda query: neighbours[query.id]
    raise RunError(f"{folder}: another process clears this cache again and again.", fix="Set FLAMINGO_EVAL_CACHE.")


def _rows_per_media(examples: Sequence[Example]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for example in examples:
        counts[example.media_id] = counts.get(example.media_id, 0) + 1
    return counts


def text_of(example: Example) -> str:
    """What rices-text compares: the question, else all the text that a prompt may show."""
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
    """Compute what the store does not have yet, shard by shard."""
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
