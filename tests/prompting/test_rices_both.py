"""Neighbours by picture and text together, and neighbours of queries that have pools of their own."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from flamingo_eval.config.specs import DemoMethod, ModelIdentity
from flamingo_eval.prompting.rices import ranking_of, standardised
from flamingo_eval.records import Media
from flamingo_eval.runs.plan import Choices, PlannedRun, plan_runs
from flamingo_eval.runs.questions import load_questions
from flamingo_eval.sample.fresh.copies import copy_of


class Pretend:
    """An encoder whose vectors are drawn from the bytes of what it is shown."""

    sha256 = "00" * 32

    def embed_media(self, media: Sequence[Media]) -> NDArray[np.float32]:
        return self._drawn([m.path.read_bytes() for m in media])

    def embed_text(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return self._drawn([text.encode() for text in texts])

    def _drawn(self, all_bytes: Sequence[bytes]) -> NDArray[np.float32]:
        seeds = [int.from_bytes(hashlib.sha256(b).digest()[:4], "big") for b in all_bytes]
        rows = np.stack([np.random.default_rng(seed).standard_normal(8) for seed in seeds]).astype(np.float32)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        return rows


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PlannedRun:
    monkeypatch.setenv("FLAMINGO_EVAL_CACHE", str(tmp_path / "cache"))
    copy_of("vl_icl_clevr", "1,queries=5,support=20").write(tmp_path / "data")
    copy_of("vl_icl_open_mi", "1,queries=3").write(tmp_path / "data")
    questions, _ = load_questions(["vl_icl_clevr"], "vl_icl")
    return plan_runs(questions, Choices(shots=(4,), data=str(tmp_path / "data")))[0]


def ids(job: PlannedRun, method: DemoMethod, weight: float = 0.5, n: int = 4) -> dict[str, list[str]]:
    spec = job.spec(ModelIdentity("m", "none", "cpu", "float32"))
    demos = replace(spec.demos, method=method, picture_weight=weight)
    ranking = ranking_of(replace(spec, demos=demos), job.data, Pretend())
    return {q.id: list(ranking(q))[:n] for q in job.data.queries.examples}


def test_all_the_weight_on_one_side_is_that_side(job: PlannedRun) -> None:
    assert ids(job, "rices-both", 1.0) == ids(job, "rices")
    assert ids(job, "rices-both", 0.0) == ids(job, "rices-text")
    assert ids(job, "rices-both", 0.5) not in (ids(job, "rices"), ids(job, "rices-text"))


@pytest.mark.parametrize("method", ["rices", "rices-both"])
def test_neighbours_come_from_the_querys_own_pool(job: PlannedRun, tmp_path: Path, method: DemoMethod) -> None:
    questions, _ = load_questions(["vl_icl_open_mi"], "vl_icl")
    (own,) = plan_runs(questions, Choices(shots=(2,), data=str(tmp_path / "data")))
    for query, rows in ids(own, method, n=100).items():
        assert len(rows) == 25
        assert all(row.startswith(f"{query}/") for row in rows)


def test_standardised_similarities_have_mean_0_and_spread_1() -> None:
    values = standardised(np.array([0.1, 0.4, 0.9]))
    assert values.mean() == pytest.approx(0)
    assert values.std() == pytest.approx(1, abs=1e-3)
    assert not standardised(np.array([0.3, 0.3])).any()
