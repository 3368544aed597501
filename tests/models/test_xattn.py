from __future__ import annotations

import dataclasses

import pytest
import torch
from torch.testing import assert_close

from flamingo_eval.models.config import XattnConfig
from flamingo_eval.models.flamingo import Flamingo
from flamingo_eval.models.initialise import new_flamingo
from flamingo_eval.models.xattn import GatedXattn, image_mask
from tests.support.small_flamingo import SMALL, open_gates

CONFIG = XattnConfig(heads=2, head_dim=4, ff_width=16)
STYLES = {
    "paper": CONFIG,
    "openflamingo": dataclasses.replace(CONFIG, norm_visual=False, activation="gelu"),
    "idefics": dataclasses.replace(
        CONFIG, norm="rmsnorm", norm_visual=False, qk_norm="rmsnorm", gate="vector", gated_ff=True, activation="silu"
    ),
}


def layer(config: XattnConfig) -> GatedXattn:
    module = GatedXattn(config, width=8, visual_width=6)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator))
    return module.requires_grad_(False)


def normal(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_mask_shows_the_last_picture_alone() -> None:
    mask = image_mask(torch.tensor([[0, 1, 1, 2]]), images=2, latents=2)
    assert mask.int().tolist() == [[[0, 0, 0, 0], [1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1]]]


def test_mask_of_all_pictures_shows_those_before() -> None:
    mask = image_mask(torch.tensor([[0, 1, 2, 3]]), images=3, latents=1, sees="all")
    assert mask.int().tolist() == [[[0, 0, 0], [1, 0, 0], [1, 1, 0], [1, 1, 1]]]


@pytest.mark.parametrize("style", STYLES)
def test_sees_only_the_last_image(style: str) -> None:
    module = layer(STYLES[style])
    text, a, b, c = normal(1, 4, 8), normal(1, 3, 6, seed=2), normal(1, 3, 6, seed=3), normal(1, 3, 6, seed=4)
    sees = torch.tensor([[1, 1, 2, 2]])

    def run(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        visual = module.project_visual(torch.stack([first, second], 1))
        attended: torch.Tensor = module(text, visual, image_mask(sees, 2, 3))
        return attended

    assert torch.equal(run(a, b)[:, 2:], run(c, b)[:, 2:])
    assert not torch.allclose(run(a, b)[:, :2], run(c, b)[:, :2])


@pytest.mark.parametrize("style", STYLES)
def test_text_before_the_first_image_gets_zero_and_no_nan(style: str) -> None:
    module = layer(STYLES[style])
    text = normal(1, 3, 8)
    visual = module.project_visual(normal(1, 2, 3, 6, seed=2))
    out = module(text, visual, image_mask(torch.tensor([[0, 0, 1]]), 2, 3))
    alone = module(text, None, None)
    assert out.isfinite().all()
    assert torch.equal(out[:, :2], alone[:, :2])  # the gated feed-forward still acts
    assert not torch.allclose(alone, text)
    assert not torch.allclose(out[:, 2], alone[:, 2])


@pytest.mark.parametrize("style", STYLES)
def test_text_that_sees_no_picture_is_unchanged_where_the_model_keeps_text(style: str) -> None:
    module, paper = layer(dataclasses.replace(STYLES[style], keeps_text=True)), layer(STYLES[style])
    text = normal(1, 3, 8)
    visual = module.project_visual(normal(1, 2, 3, 6, seed=2))
    seen = image_mask(torch.tensor([[0, 0, 1]]), 2, 3)
    out = module(text, visual, seen)
    assert torch.equal(out[:, :2], text[:, :2])
    assert torch.equal(out[:, 2], paper(text, visual, seen)[:, 2])
    assert torch.equal(module(text, None, None), text)


def test_keys_and_values_of_a_picture_do_not_depend_on_others() -> None:
    module = layer(CONFIG)
    visual = normal(1, 4, 3, 6)
    together = module.project_visual(visual)
    alone = [module.project_visual(visual[0, i]) for i in range(4)]
    for part in range(2):
        assert together[part].shape == (1, 4, 2, 3, 4)  # [B, M, H, L, d]
        assert_close(together[part][0], torch.stack([pair[part] for pair in alone]))


def test_placement_first_and_last() -> None:
    first = [i for i in range(10) if XattnConfig(every=4).before(i)]
    last = [i for i in range(10) if XattnConfig(every=4, placement="last").before(i)]
    assert (first, last) == ([0, 4, 8], [3, 7])


@pytest.mark.parametrize("style", STYLES)
def test_closed_gates_leave_the_language_model_bit_identical(style: str) -> None:
    xattn = dataclasses.replace(STYLES[style], every=2)
    decoder = dataclasses.replace(SMALL.decoder, layers=4)
    model = open_gates(new_flamingo(dataclasses.replace(SMALL, xattn=xattn, decoder=decoder), 0))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(("attention_gate", "ff_gate")):
                parameter.zero_()
    tokens = torch.tensor([[1, 2, 3, 4]])
    visual = model.project_visual(normal(1, 2, 3, 24))
    with torch.inference_mode():
        with_pictures = model(tokens, visual, torch.tensor([[0, 1, 1, 2]]))
        assert torch.equal(with_pictures, model.decoder(tokens))
        assert torch.equal(model(tokens), model.decoder(tokens))


def test_a_fresh_flamingo_is_its_language_model() -> None:
    model: Flamingo = new_flamingo(SMALL, seed=3).eval()
    tokens = torch.tensor([[5, 6, 7]])
    visual = model.project_visual(model.visual_tokens(model.features(normal(1, 1, 3, 16, 16)))[:, None])
    with torch.inference_mode():
        assert torch.equal(model(tokens, visual, torch.tensor([[1, 1, 1]])), model.decoder(tokens))
