"""Functions that are captured and replayed, with a simulated capture (test_cuda.py has a real one)."""

from __future__ import annotations

import logging

import pytest
import torch
from torch import Tensor

from flamingo_eval.engine import cuda_graph
from flamingo_eval.engine.cuda_graph import CapturedGraph
from tests.support.pretend_device import pretended_capture


def test_what_is_played_is_what_the_function_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_graph, "capture", pretended_capture)
    calls: list[Tensor] = []

    def work(a: Tensor, b: Tensor | None) -> Tensor:
        calls.append(a)
        assert b is None
        return a * 2

    function = CapturedGraph(work)
    for i in range(4):
        assert function(torch.tensor([i, 1]), None).tolist() == [2 * i, 2]
    assert len({a.data_ptr() for a in calls}) == 1, "always the same memory"


def test_what_cannot_be_recorded_is_called(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def refuse(work: object) -> None:
        raise torch.OutOfMemoryError("no memory\nmore")

    monkeypatch.setattr(cuda_graph, "capture", refuse)
    function = CapturedGraph(lambda a: a + 1)
    with caplog.at_level(logging.WARNING):
        assert [int(function(torch.tensor(i))) for i in range(4)] == [1, 2, 3, 4]
    assert [r.message for r in caplog.records] == ["decoding continues without a CUDA graph: no memory"]
