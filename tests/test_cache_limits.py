"""Both caches stay within their limit, and a cleared feature cache is made again."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from flamingo_eval.config.settings import cache_bytes
from flamingo_eval.config.specs import DemoSpec
from flamingo_eval.data.disk_store import trim
from flamingo_eval.errors import ConfigError
from flamingo_eval.prompting import rices
from flamingo_eval.prompting.feature_store import FeatureStore
from flamingo_eval.prompting.rices import ranking_of
from flamingo_eval.records import Example, Media, Split
from flamingo_eval.runs.task_data import TaskData
from tests.support.vqa_spec import vqa_spec


def test_the_limit_comes_from_the_environment_or_the_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FLAMINGO_EVAL_CACHE_GB", raising=False)
    assert cache_bytes() == 20e9
    Path("flamingo-eval.yaml").write_text("cache_gb: 0.5\n")
    assert cache_bytes() == 5e8
    monkeypatch.setenv("FLAMINGO_EVAL_CACHE_GB", "2")
    assert cache_bytes() == 2e9
    for wrong in ("much", "-1", "nan", "inf"):
        monkeypatch.setenv("FLAMINGO_EVAL_CACHE_GB", wrong)
        with pytest.raises(ConfigError, match="FLAMINGO_EVAL_CACHE_GB"):
            cache_bytes()


def test_shards_used_longest_ago_go_first(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path / "media" / "a")
    for i in range(3):
        store.add([bytes([i]) * 32], np.ones((1, 8), np.float32))
    shards = {key[0]: store._disk.path(name) for key, (name, _) in store._where.items()}
    for i, path in shards.items():
        os.utime(path, (1000 + i, 1000 + i))
    next(store.blocks([bytes(32)]))  # the oldest is used again
    trim(tmp_path, sum(p.stat().st_size for p in list(shards.values())[:2]))
    assert [i for i, path in shards.items() if path.exists()] == [0, 2]


class WordNumbers:
    """`word 3` is the unit vector of axis 3."""

    sha256 = "0" * 64

    def __init__(self) -> None:
        self.encoded: list[str] = []

    def embed_media(self, media: Sequence[Media]) -> NDArray[np.float32]:
        raise NotImplementedError("texts are compared here")

    def embed_text(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.encoded.extend(texts)
        return np.eye(6, dtype=np.float32)[[int(t.split()[1]) for t in texts]]


def test_ranking_starts_again_when_another_process_clears_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLAMINGO_EVAL_CACHE", str(tmp_path))
    rows = tuple(Example(str(i), (), str(i), fields={"question": f"word {i}"}) for i in range(6))
    spec = vqa_spec(DemoSpec("rices-text", 2, 0, 0))
    data = TaskData(spec.task, tmp_path, Split("val", rows[:2], ()), Split("train", rows, ()))
    encoder = WordNumbers()
    expected = [ranking_of(spec, data, encoder)(q) for q in rows[:2]]
    fill, stores = rices._fill, list[FeatureStore]()

    def cleared_after(store: FeatureStore, *rest: Any) -> None:
        fill(store, *rest)
        stores.append(store)
        if len(stores) == 1:
            for path in tmp_path.rglob("*.safetensors"):
                path.unlink()

    monkeypatch.setattr(rices, "_fill", cleared_after)
    assert [ranking_of(spec, data, encoder)(q) for q in rows[:2]] == expected
    assert len(stores) == 3  # the first query ranks twice
    assert len(encoder.encoded) == 12


def test_a_limit_of_nothing_changes_no_ranking(tmp_path: Path) -> None:
    FeatureStore(tmp_path).add([bytes(32)], np.ones((1, 8), np.float32))
    trim(tmp_path, 0)
    assert list(tmp_path.rglob("*.safetensors")) == []
    assert len(FeatureStore(tmp_path)) == 0
