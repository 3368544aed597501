"""The engine on a device that is not the CPU: nothing of it stays behind, and no step waits for it."""

from __future__ import annotations

import gc
import weakref
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from flamingo_eval import END_OF_CHUNK, DecodeSpec, Prompt, RankSpec
from flamingo_eval.api import Model
from flamingo_eval.engine import Engine, cuda_graph
from flamingo_eval.engine.kv_slots import SlotCache
from flamingo_eval.engine.prefill import Prefill
from tests.support.candidates import some_names
from tests.support.engine_answers import DEVICE_FAMILIES, PICTURES, answers, scores, some_prompts, texts
from tests.support.pretend_device import PretendDevice, pretended_capture, send
from tests.support.small_flamingo import save_small, small_model

STEPS = 9
ASKED = 2  # times in these steps whether all have ended


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> PretendDevice:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device=None: (2**30, 2**31))
    monkeypatch.setattr(cuda_graph, "capture", pretended_capture)
    return PretendDevice()


@pytest.mark.slow
@pytest.mark.parametrize("family", DEVICE_FAMILIES)
def test_the_same_answers_on_another_device(family: str, device: PretendDevice, tmp_path: Path) -> None:
    prompts = some_prompts(10, seed=3)
    with_prefix = [Prompt([PICTURES[0], "ab" * 20, END_OF_CHUNK, PICTURES[i], "?"]) for i in range(4)]
    lists = [["a", "ab", "abc", "xyz"], some_names(500, 2, 4), ["only one"]]
    names = [lists[i % 3] for i in range(len(prompts))]
    here = small_model(tmp_path, context=128, **DEVICE_FAMILIES[family])
    there = Model.load(tmp_path)
    texts_here, scores_here, best_here, _ = answers(here, [*prompts, *with_prefix], prompts, names)
    with device:
        send(there.flamingo)
        assert there.device.type == "cuda"
        texts_there, scores_there, best_there, stats = answers(there, [*prompts, *with_prefix], prompts, names)
        logits = there.logits(prompts[0])
    assert texts_there == texts_here
    for row, expected in zip(scores_there, scores_here, strict=True):
        assert row == pytest.approx(expected, abs=1e-4)
    assert best_there == best_here
    assert stats["searched"] > 0
    assert stats["heads"] > 0
    assert torch.allclose(logits, here.logits(prompts[0]), atol=1e-4)


def waits_of(device: PretendDevice, work: Callable[[], object]) -> Counter[str]:
    before = device.waits.copy()
    work()
    return device.waits - before


def test_no_step_waits_for_the_device(device: PretendDevice, tmp_path: Path) -> None:
    """Once a picture batch, once an answer, and now and then whether all beams have ended."""
    model = Model.load(save_small(tmp_path))
    prompts = [Prompt([PICTURES[i], "abc"]) for i in range(4)]
    with device:
        send(model.flamingo)
        engine = Engine(model, batch_size=4)
        waits = waits_of(device, lambda: texts(engine, prompts, DecodeSpec(beams=3, max_new_tokens=STEPS)))
        assert waits == {
            "engine/vision.py: cpu": 1,
            "engine/generation.py: tolist": 1,
            "engine/beam_search.py: __bool__": ASKED,
        }
        waits = waits_of(device, lambda: scores(engine, prompts, [["ab", "abc", "d"]] * 4, RankSpec()))
        assert waits == {"engine/ranking.py: tolist": 4}


@pytest.mark.slow
@pytest.mark.parametrize("family", DEVICE_FAMILIES)
def test_a_step_sends_nothing_to_the_device(family: str, device: PretendDevice, tmp_path: Path) -> None:
    small_model(tmp_path, context=128, **DEVICE_FAMILIES[family])
    model = Model.load(tmp_path)
    prompts = [Prompt([PICTURES[i], "abc"]) for i in range(4)]
    with device:
        send(model.flamingo)
        engine, sent = Engine(model, batch_size=4), []
        for n in (1, 2, STEPS):  # the first time pictures are sent
            before = device.sent.copy()
            texts(engine, prompts, DecodeSpec(beams=3, max_new_tokens=n))
            sent.append(device.sent - before)
    assert sent[1] == sent[2]
    assert sum(sent[1].values()) > 0


@pytest.mark.slow
def test_a_batch_leaves_no_cache_behind(device: PretendDevice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even until the collector of cycles comes: on a GPU it is gigabytes."""
    model = Model.load(save_small(tmp_path))
    caches: list[weakref.ref[SlotCache]] = []
    read_prompts = Prefill.read_prompts

    def noted(*given: Any) -> Any:
        logits = read_prompts(*given)
        caches.append(weakref.ref(logits[0]))
        return logits

    monkeypatch.setattr(Prefill, "read_prompts", noted)
    gc.collect()
    gc.disable()
    try:
        with device:
            send(model.flamingo)
            engine = Engine(model, batch_size=2)
            texts(engine, [Prompt([PICTURES[i % 5], "abc"]) for i in range(6)], DecodeSpec(beams=3, max_new_tokens=12))
            assert len(caches) == 3
            assert sum(cache() is not None for cache in caches) == 0
    finally:
        gc.enable()


@pytest.mark.parametrize(
    ("mistake", "says"),
    [
        (lambda there: there + torch.ones(2), "operands on CUDA and on the CPU"),
        (lambda there: torch.cat([torch.ones(2), there]), "operands"),
        (lambda there: torch.ones(2)[there.long()], "operands"),
        (lambda there: there.__setitem__(slice(0, 2), torch.ones(2)), "operands"),
        (lambda there: there.normal_(generator=torch.Generator()), "a generator of the CPU"),
        (lambda there: torch.rand(2, device="cuda", generator=torch.Generator()), "a generator of the CPU"),
    ],
)
def test_the_pretended_device_refuses_what_a_real_one_refuses(
    mistake: Callable[[torch.Tensor], object], says: str, device: PretendDevice
) -> None:
    with device:
        there = torch.zeros(2, device="cuda")
        with pytest.raises(RuntimeError, match=says):
            mistake(there)
        assert (there[torch.tensor([0])] * 2 + 1).cpu().tolist() == [1.0]  # what it allows
        assert there.to(torch.float64).device == there.device
    assert sum(device.waits.values()) == 1
