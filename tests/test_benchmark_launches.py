from __future__ import annotations

from dataclasses import replace

import torch

from benchmarks.launches import Counted, step_of
from flamingo_eval.models.presets import TINY, preset


def test_looking_at_a_tensor_otherwise_launches_nothing() -> None:
    x = torch.zeros(4, 6, device="meta")
    with torch.inference_mode(), Counted() as counted:
        x.view(6, 4).transpose(0, 1)[1:].expand(3, -1, -1)
    assert counted.operators == 0
    with torch.inference_mode(), Counted() as counted:
        x.transpose(0, 1).reshape(24)  # a copy
        torch.relu(x) + 1
        x.add_(1)
    assert counted.operators == 4


def test_a_step_grows_by_the_same_operators_for_each_block() -> None:
    shapes = [replace(TINY, decoder=replace(TINY.decoder, layers=n, short_conv=0)) for n in (2, 4, 6)]
    two, four, six = (step_of(s, rows=2, columns=40).operators for s in shapes)
    assert six - four == four - two > 20


def test_a_step_reads_the_weights_once_and_every_prompt() -> None:
    one, many = (step_of(preset("openflamingo-9b"), rows=n, columns=100) for n in (1, 64))
    assert one.weights == many.weights
    assert many.cache == 64 * one.cache
    assert 15e9 < one.weights < 16e9  # 7.8 billion numbers of the decoder and the gated blocks
