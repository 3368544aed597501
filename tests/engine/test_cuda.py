"""The engine on a real GPU, where there is one: the same answers as on the CPU, and memory that does not suffice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from flamingo_eval import END_OF_CHUNK, DecodeSpec, Prompt
from flamingo_eval.api import Model, load_flamingo_model
from flamingo_eval.engine import Engine
from flamingo_eval.engine.cuda_graph import CapturedGraph
from tests.support.candidates import some_names
from tests.support.engine_answers import DEVICE_FAMILIES, PICTURES, answers, some_prompts, texts
from tests.support.small_flamingo import picture, small_model

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")


@pytest.mark.parametrize("family", DEVICE_FAMILIES)
def test_float32_answers_are_those_of_the_cpu(family: str, tmp_path: Path) -> None:
    prompts = some_prompts(24, seed=3)
    with_prefix = [Prompt([PICTURES[0], "ab" * 20, END_OF_CHUNK, PICTURES[i], "?"]) for i in range(4)]
    lists = [["a", "ab", "abc", "xyz"], some_names(500, 2, 4), ["only one"]]
    names = [lists[i % 3] for i in range(len(prompts))]
    here = small_model(tmp_path, context=128, **DEVICE_FAMILIES[family])
    there = Model.load(tmp_path, device="cuda")
    texts_here, scores_here, best_here, _ = answers(here, [*prompts, *with_prefix], prompts, names)
    texts_there, scores_there, best_there, stats = answers(there, [*prompts, *with_prefix], prompts, names)
    assert texts_there == texts_here
    for row, expected in zip(scores_there, scores_here, strict=True):
        assert row == pytest.approx(expected, abs=1e-4)
    assert best_there == best_here
    assert stats["searched"] > 0
    assert torch.allclose(there.logits(prompts[0]), here.logits(prompts[0]), atol=1e-4)


def tiny_prompts(n: int) -> list[Prompt]:
    """Of one to four pictures of the size that the tiny checkpoint reads."""
    shot_pictures = [picture(i, size=64) for i in range(6)]
    return [
        Prompt(
            [
                part
                for j in range(1 + i % 4)
                for part in (shot_pictures[(i + j) % 6], f"name: {'ab' * j}", END_OF_CHUNK)
            ][:-1]
        )
        for i in range(n)
    ]


def test_the_tiny_checkpoint_says_the_same() -> None:
    here, there = load_flamingo_model("tiny"), load_flamingo_model("tiny", device="cuda", dtype="float32")
    prompts = tiny_prompts(40)
    for new in (5, 20):  # from the second on, steps are played from a graph
        spec = DecodeSpec(beams=3, max_new_tokens=new)
        expected = texts(Engine(here), prompts, spec)
        assert all(text is not None for text in expected)
        for rows in (1, 7, 64):
            assert texts(Engine(there, batch_size=rows), prompts, spec) == expected


def test_bfloat16_is_near_float32() -> None:
    exact, half = (load_flamingo_model("tiny", device="cuda", dtype=d) for d in ("float32", "bfloat16"))
    prompt = tiny_prompts(4)[3]
    apart = (exact.logits(prompt).softmax(-1) - half.logits(prompt).softmax(-1)).abs().max()
    assert 0 < float(apart) < 0.1


def test_a_graph_gives_what_the_function_gives() -> None:
    weights = torch.randn(64, 64, device="cuda")
    function = CapturedGraph(lambda x: (x @ weights).relu())
    for _ in range(4):
        x = torch.randn(8, 64, device="cuda")
        assert torch.equal(function(x), (x @ weights).relu())


def test_an_operator_that_no_graph_can_hold_is_called(caplog: pytest.LogCaptureFixture) -> None:
    function = CapturedGraph(lambda x: x * x.sum().item())
    for i in range(4):
        x = torch.full((3,), float(i), device="cuda")
        assert torch.equal(function(x), x * 3 * i)
    assert len(caplog.records) == 1


@pytest.fixture
def little_memory() -> Iterator[None]:
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 160 * 2**20) / total)
    yield
    torch.cuda.set_per_process_memory_fraction(1.0)


def test_out_of_memory_halves_the_batch(little_memory: None, tmp_path: Path) -> None:
    del little_memory
    small_model(tmp_path, context=2048)
    model = Model.load(tmp_path, device="cuda")
    prompts = [Prompt([PICTURES[i % 5], "ab" * 400, "Q" * (i % 7)]) for i in range(256)]
    spec = DecodeSpec(beams=3, max_new_tokens=12)
    engine = Engine(model, batch_size=256, token_budget=10**6)
    answers = texts(engine, prompts, spec)
    assert engine.stats["memory_halvings"] > 0
    assert engine.stats["failed"] == 0
    assert answers[:4] == texts(Engine(model, batch_size=2), prompts[:4], spec)
