"""The engine on a real GPU, where there is one: the same answers as on the CPU, and memory that does not suffice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from small_flamingo import small_model
from test_engine_best import some_names
from test_engine_device import FAMILIES, answers
from test_engine_engine import PICTURES, some_prompts, texts

from flamingo_eval import END_OF_CHUNK, DecodeSpec, Prompt, load_model
from flamingo_eval.engine import Engine
from flamingo_eval.models.model import Model

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")


@pytest.mark.parametrize("family", FAMILIES)
def test_float32_answers_are_those_of_the_cpu(family: str, tmp_path: Path) -> None:
    prompts = some_prompts(24, seed=3)
    with_head = [Prompt([PICTURES[0], "ab" * 20, END_OF_CHUNK, PICTURES[i], "?"]) for i in range(4)]
    lists = [["a", "ab", "abc", "xyz"], some_names(500, 2, 4), ["only one"]]
    names = [lists[i % 3] for i in range(len(prompts))]
    here = small_model(tmp_path, context=128, **FAMILIES[family])
    there = Model.load(tmp_path, device="cuda")
    texts_here, scores_here, best_here, _ = answers(here, [*prompts, *with_head], prompts, names)
    texts_there, scores_there, best_there, stats = answers(there, [*prompts, *with_head], prompts, names)
    assert texts_there == texts_here
    for found, expected in zip(scores_there, scores_here, strict=True):
        assert found == pytest.approx(expected, abs=1e-4)
    assert best_there == best_here
    assert stats["searched"] > 0
    assert torch.allclose(there.logits(prompts[0]), here.logits(prompts[0]), atol=1e-4)


def test_the_tiny_checkpoint_says_the_same() -> None:
    here, there = load_model("tiny"), load_model("tiny", device="cuda", dtype="float32")
    prompts = some_prompts(40, seed=5)
    spec = DecodeSpec(beams=3, max_new_tokens=8)
    assert texts(Engine(there), prompts, spec) == texts(Engine(here), prompts, spec)
    batched = [(texts(Engine(there, batch_size=n), prompts, spec)) for n in (1, 7)]
    assert batched[0] == batched[1]


def test_bfloat16_is_near_float32() -> None:
    exact, half = (load_model("tiny", device="cuda", dtype=d) for d in ("float32", "bfloat16"))
    prompt = some_prompts(1, seed=8)[0]
    apart = (exact.logits(prompt).softmax(-1) - half.logits(prompt).softmax(-1)).abs().max()
    assert 0 < float(apart) < 0.1


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
    spec = DecodeSpec(beams=3, max_new_tokens=4)
    engine = Engine(model, batch_size=256, token_budget=10**6)
    found = texts(engine, prompts, spec)
    assert engine.stats["memory_halvings"] > 0
    assert engine.stats["failed"] == 0
    assert found[:4] == texts(Engine(model, batch_size=2), prompts[:4], spec)
