"""Both caches stay within their limit, and a cleared feature cache is made again."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from flamingo_eval.config.settings import cache_bytes
from flamingo_eval.config.specs import DemoSpec
from flamingo_eval.data.disk_store import trim
from flamingo_eval.errors import ConfigError
from flamingo_eval.prompting import rices
from flamingo_eval.prompting.feature_store import FeatureStore
from flamingo_eval.prompting.rices import ranking_of
from flamingo_eval.records import Example, Split


def test_the_limit_comes_from_the_environment_or_the_settings(tmp_path, monkeypatch):
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


def test_shards_used_longest_ago_go_first(tmp_path):
    store = FeatureStore(tmp_path / "media" / "a")
    for i in range(3):
        store.add([bytes([i]) * 32], np.ones((1, 8), np.float32))
    shards = {key[0]: store._disk.path(name) for key, (name, _) in store._where.items()}
    for i, path in shards.items():
        os.utime(path, (1000 + i, 1000 + i))
    next(store.blocks([bytes(32)]))  # the oldest is used again
    trim(tmp_path, sum(p.stat().st_size for p in list(shards.values())[:2]))
    assert [i for i, path in shards.items() if path.exists()] == [0, 2]


def test_ranking_starts_again_when_another_process_clears_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FLAMINGO_EVAL_CACHE", str(tmp_path))
    rows = tuple(Example(str(i), (), str(i), fields={"question": f"word {i}"}) for i in range(6))
    spec = SimpleNamespace(task=SimpleNamespace(name="t"), demos=DemoSpec("rices-text", 2, 0, 0), text_only_shots=0)
    data = SimpleNamespace(support=Split("train", rows, ()), queries=Split("val", rows[:2], ()))
    encoded = []

    def embed_text(texts):
        encoded.extend(texts)
        return np.eye(6, dtype=np.float32)[[int(t.split()[1]) for t in texts]]

    encoder = SimpleNamespace(sha256="0" * 64, embed_text=embed_text)
    expected = [ranking_of(spec, data, encoder)(q) for q in rows[:2]]
    fill, calls = rices._fill, []

    def cleared_after(store, *rest):
        fill(store, *rest)
        calls.append(store)
        if len(calls) == 1:
            for path in tmp_path.rglob("*.safetensors"):
                path.unlink()

    monkeypatch.setattr(rices, "_fill", cleared_after)
    assert [ranking_of(spec, data, encoder)(q) for q in rows[:2]] == expected
    assert len(calls) == 3  # the first query ranks twice
    assert len(encoded) == 12


def test_a_limit_of_nothing_changes_no_ranking(tmp_path):
    FeatureStore(tmp_path).add([bytes(32)], np.ones((1, 8), np.float32))
    trim(tmp_path, 0)
    assert list(tmp_path.rglob("*.safetensors")) == []
    assert len(FeatureStore(tmp_path)) == 0
