from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from flamingo_eval.api import Model
from flamingo_eval.engine import packed_linear as packed_module
from flamingo_eval.engine.packed_linear import PackedLinear, packed
from tests.support.small_flamingo import save_small


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_packed_layer_is_the_layer(dtype: torch.dtype) -> None:
    layer = nn.Linear(48, 80, dtype=dtype)
    x = torch.randn(2, 7, 48, generator=torch.Generator().manual_seed(0)).to(dtype)
    with torch.inference_mode():
        torch.testing.assert_close(PackedLinear(layer.weight, layer.bias)(x), layer(x))


@torch.inference_mode()
def test_rows_do_not_depend_on_their_number() -> None:
    layer = PackedLinear(torch.randn(96, 64, generator=torch.Generator().manual_seed(0)), None)
    x = torch.randn(70, 64, generator=torch.Generator().manual_seed(1))
    whole = layer(x)
    assert all(torch.equal(layer(x[:n]), whole[:n]) for n in range(1, 70))


@torch.inference_mode()
def test_the_network_given_stays_as_it_is(tmp_path: Path) -> None:
    flamingo = Model.load(save_small(tmp_path / "small")).flamingo
    before = list(flamingo.state_dict())
    arranged = packed(flamingo)
    assert not any(isinstance(m, nn.Linear) for m in arranged.modules())
    assert list(flamingo.state_dict()) == before
    assert flamingo.decoder.head is None
    tokens = torch.arange(12)[None]
    torch.testing.assert_close(arranged(tokens), flamingo(tokens))
    assert arranged.vision is not flamingo.vision
    assert arranged.decoder.embedding.weight is flamingo.decoder.embedding.weight


def test_a_network_too_large_for_two_copies_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flamingo = Model.load(save_small(tmp_path / "small")).flamingo
    monkeypatch.setattr(packed_module, "SHARE_OF_RAM", 0.0)
    assert packed(flamingo) is flamingo
