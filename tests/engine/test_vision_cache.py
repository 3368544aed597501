from __future__ import annotations

import errno
import multiprocessing
import os
import time
from pathlib import Path

import pytest
import torch

from flamingo_eval.engine.vision_cache import VisionCache

KEY = "ab" + "0" * 62


def tokens(seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(4, 6, generator=torch.Generator().manual_seed(seed)).to(dtype)


def only_file(folder: Path) -> Path:
    (path,) = (p for p in folder.rglob("*") if p.is_file())
    return path


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_what_was_put_comes_back_in_another_process_lifetime(tmp_path: Path, dtype: torch.dtype) -> None:
    VisionCache("model", tmp_path).put(KEY, tokens(dtype=dtype))
    later = VisionCache("model", tmp_path)
    assert KEY in later
    stored = later.get(KEY)
    assert stored is not None
    assert stored.dtype == dtype
    assert torch.equal(stored, tokens(dtype=dtype))
    assert later.get(KEY) is stored
    assert later.stats == {"hits_memory": 1, "hits_disk": 1, "misses": 0, "damaged": 0, "hit_rate": 1.0}


def test_namespaces_do_not_mix(tmp_path: Path) -> None:
    one, other = VisionCache("model a", tmp_path), VisionCache("model b", tmp_path)
    one.put(KEY, tokens())
    assert other.get(KEY) is None
    assert one.folder is not None
    assert other.folder is not None
    path = only_file(one.folder)
    foreign = other.folder / path.relative_to(one.folder)
    foreign.parent.mkdir(parents=True)
    foreign.write_bytes(path.read_bytes())
    assert other.get(KEY) is None
    assert other.stats["damaged"] == 1


@pytest.mark.parametrize("damage", ["cut", "flipped", "emptied", "renamed"])
def test_damaged_files_are_noticed_and_rebuilt(tmp_path: Path, damage: str) -> None:
    VisionCache("model", tmp_path).put(KEY, tokens())
    path = only_file(tmp_path)
    data = path.read_bytes()
    key = KEY
    if damage == "renamed":
        key = "ab" + "1" * 62
        path.rename(path.with_stem(key))
    else:
        path.write_bytes({"cut": data[:-5], "flipped": data[:-1] + bytes([data[-1] ^ 1]), "emptied": b""}[damage])
    cache = VisionCache("model", tmp_path)
    assert cache.get(key) is None
    assert cache.stats["damaged"] == 1
    cache.put(key, tokens(1))
    again = VisionCache("model", tmp_path).get(key)
    assert again is not None
    assert torch.equal(again, tokens(1))


def test_memory_is_bounded_and_keeps_the_recent(tmp_path: Path) -> None:
    cache = VisionCache("model", memory_bytes=3 * tokens().nbytes)
    for i in range(3):
        cache.put(f"{i:064}", tokens(i))
    assert cache.get(f"{0:064}") is not None
    cache.put(f"{3:064}", tokens(3))
    assert [cache.get(f"{i:064}") is not None for i in range(4)] == [True, False, True, True]


def test_disk_is_bounded_and_the_longest_unread_go(tmp_path: Path) -> None:
    cache = VisionCache("model", tmp_path, disk_bytes=10_000)
    for i in range(40):
        cache.put(f"{i:064}", tokens(i))
        path = next(tmp_path.rglob(f"{i:064}.*"))
        os.utime(path, ns=(i, i))
    left = sorted(p.stem for p in tmp_path.rglob("0*") if p.is_file())
    assert sum(p.stat().st_size for p in tmp_path.rglob("0*") if p.is_file()) <= 10_000
    assert left[-1] == f"{39:064}"
    assert f"{0:064}" not in left


def test_a_folder_that_cannot_be_written_leaves_memory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    cache = VisionCache("model", tmp_path / "file")
    cache.put(KEY, tokens())
    assert cache.get(KEY) is not None


def test_a_full_disk_leaves_memory_and_no_half_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("flamingo_eval.data.disk_store.os.replace", full)
    cache = VisionCache("model", tmp_path)
    cache.put(KEY, tokens())
    assert cache.get(KEY) is not None
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]


def _write_many(folder: Path) -> None:
    cache = VisionCache("model", folder, disk_bytes=20_000)
    for _ in range(3):
        for i in range(30):
            stored = cache.get(f"{i:064}")
            assert stored is None or torch.equal(stored, tokens(i))
            cache.put(f"{i:064}", tokens(i))
    assert cache.damaged == 0


@pytest.mark.slow
def test_several_processes_may_share_a_folder(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=_write_many, args=(tmp_path,))
    process.start()
    while not any(tmp_path.iterdir()):  # until the other one has begun to write
        time.sleep(0.01)
        assert process.exitcode is None
    for _ in range(4):
        _write_many(tmp_path)
    process.join()
    assert process.exitcode == 0
