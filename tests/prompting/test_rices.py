"""RICES: exact neighbours whatever the blocks, and features that survive on disk."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from flamingo_eval.errors import RunError
from flamingo_eval.prompting.feature_store import FeatureStore
from flamingo_eval.prompting.rices import nearest


def blocks_of(rows: NDArray[np.float32], size: int) -> Iterator[tuple[int, NDArray[np.float32]]]:
    for first in range(0, len(rows), size):
        yield first, rows[first : first + size]


def by_sorting(queries: NDArray[np.float32], rows: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    return np.argsort(-np.round(queries @ rows.T, 5), axis=1, kind="stable")[:, :k]


@settings(max_examples=60, deadline=None)
@given(n=st.integers(1, 60), k=st.integers(1, 20), size=st.integers(1, 70), seed=st.integers(0, 10**6))
def test_neighbours_are_those_of_a_full_sort(n: int, k: int, size: int, seed: int) -> None:
    """Few distinct values, so that most rows tie: the lower index comes first, in whatever block it lies."""
    draw = np.random.default_rng(seed)
    rows = draw.integers(-1, 2, (n, 2)).astype(np.float32)
    queries = draw.integers(-1, 2, (5, 2)).astype(np.float32)
    np.testing.assert_array_equal(nearest(queries, blocks_of(rows, size), k), by_sorting(queries, rows, k))


def unit(n: int, seed: int) -> NDArray[np.float32]:
    rows = np.random.default_rng(seed).standard_normal((n, 8)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


def keys(n: int) -> list[bytes]:
    return [i.to_bytes(32, "big") for i in range(n)]


def test_a_store_gives_back_what_was_added_in_any_order(tmp_path: Path) -> None:
    vectors = unit(30, 0)
    store = FeatureStore(tmp_path)
    store.add(keys(30)[:20], vectors[:20])
    store.add(keys(30)[20:], vectors[20:])
    order = [29, 0, 21, 3, 3]
    (block,) = [b for _, b in FeatureStore(tmp_path).blocks([keys(30)[i] for i in order])]
    np.testing.assert_allclose(block, vectors[order], atol=1e-3)  # kept as float16


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"the cache cannot be written: Not a directory\.\n.*FLAMINGO_EVAL_CACHE"):
        FeatureStore(tmp_path / "file" / "media").add(keys(1), unit(1, 0))


@pytest.mark.parametrize("damage", [b"", b"garbage", None])
def test_a_damaged_shard_is_dropped_alone(tmp_path: Path, damage: bytes | None) -> None:
    store = FeatureStore(tmp_path)
    store.add(keys(4)[:2], unit(2, 0))
    store.add(keys(4)[2:], unit(2, 1))
    victim = sorted(tmp_path.rglob("*.safetensors"))[0]
    whole = victim.read_bytes()
    flipped = whole[:-1] + bytes([whole[-1] ^ 1])
    victim.write_bytes(flipped if damage is None else damage)
    again = FeatureStore(tmp_path)
    assert len(again) == 2
    assert not victim.exists()
