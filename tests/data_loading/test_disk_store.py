"""The cache on disk: what is written comes back, damage is noticed, one limit holds for everything below a folder."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
import torch

from flamingo_eval.data.disk_store import DiskStore, trim

NAME = "ab" + "0" * 62
KEYS = [bytes([i]) * 32 for i in range(3)]


def values(dtype: torch.dtype = torch.float32, seed: int = 0) -> torch.Tensor:
    return torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(seed)).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_rows_come_back_as_they_were_written(tmp_path: Path, dtype: torch.dtype) -> None:
    size = DiskStore(tmp_path, "model").write(NAME, KEYS, values(dtype).transpose(1, 2))
    store = DiskStore(tmp_path, "model")
    assert NAME in store
    assert list(store.names()) == [NAME]
    assert store.path(NAME).stat().st_size == size
    for verify in (True, False):
        shard = store.read(NAME, verify=verify)
        assert shard is not None
        assert shard.keys == tuple(KEYS)
        assert torch.equal(shard.values, values(dtype).transpose(1, 2))


def test_every_flipped_byte_is_noticed(tmp_path: Path) -> None:
    store = DiskStore(tmp_path, "model")
    store.write(NAME, KEYS[:1], values()[:1])
    path = store.path(NAME)
    data = path.read_bytes()
    for at in range(len(data)):
        path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        shard = store.read(NAME)
        assert shard is None or (shard.keys == (KEYS[0],) and torch.equal(shard.values, values()[:1]))
        assert (shard is None) == (not path.exists())
    assert store.damaged > len(data) * 0.8  # the rest is padding and names in the header


@pytest.mark.parametrize("cut", [0, 7, 100, -1])
def test_a_truncated_file_is_deleted(tmp_path: Path, cut: int) -> None:
    store = DiskStore(tmp_path, "model")
    store.write(NAME, KEYS, values())
    store.path(NAME).write_bytes(store.path(NAME).read_bytes()[:cut])
    assert store.read(NAME) is None
    assert store.damaged == 1
    assert NAME not in store


def test_one_trim_by_last_use_over_all_namespaces(tmp_path: Path) -> None:
    stores = [DiskStore(tmp_path / name, name) for name in ("a", "b")]
    paths = []
    for i in range(6):
        store, name = stores[i % 2], f"{i:064}"
        size = store.write(name, KEYS, values(seed=i))
        os.utime(store.path(name), (1000 + i, 1000 + i))
        paths.append(store.path(name))
    stores[0].read(f"{0:064}")  # the oldest is used again
    assert trim(tmp_path, 6 * size) == 6 * size
    assert trim(tmp_path, 4 * size, keep=0.5) == 2 * size
    assert [i for i, path in enumerate(paths) if path.exists()] == [0, 5]


def test_parts_of_killed_processes_go_and_those_being_written_stay(tmp_path: Path) -> None:
    young, old = tmp_path / "ab" / "x.part", tmp_path / "ab" / "y.part"
    young.parent.mkdir()
    for path in (young, old):
        path.write_bytes(b"half")
    os.utime(old, (time.time() - 10**6,) * 2)
    assert trim(tmp_path, 10**9) == 0
    assert young.exists()
    assert not old.exists()
