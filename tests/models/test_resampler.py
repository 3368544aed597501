from __future__ import annotations

import dataclasses

import pytest
import torch
from torch.testing import assert_close

from flamingo_eval import Prompt
from flamingo_eval.api import Model, load_flamingo_model
from flamingo_eval.models.config import PoolingConfig, ResamplerConfig
from flamingo_eval.models.initialise import initialise
from flamingo_eval.models.resampler import Pooling, Resampler, time_embeddings
from tests.support.small_flamingo import SMALL, picture, save_small

CONFIG = ResamplerConfig(width=16, layers=2, heads=2, head_dim=8, latents=5, ff_width=32, frames=8)


def resampler(config: ResamplerConfig = CONFIG, visual_width: int = 12) -> Resampler:
    module = Resampler(config, visual_width)
    initialise(module, torch.Generator().manual_seed(0))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(
                0.2 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel()))
            )
    return module.requires_grad_(False)


def features(n: int, frames: int, positions: int = 4) -> torch.Tensor:
    return torch.randn(n, frames, positions, 12, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("frames", [1, 3, 8, 30])
def test_any_number_of_frames_gives_the_same_number_of_tokens(frames: int) -> None:
    assert resampler()(features(2, frames)).shape == (2, 5, 16)


def test_a_picture_is_a_clip_of_one_frame(small: Model) -> None:
    image = picture(0)
    clip = type(image)(image.tensor[None])
    assert torch.equal(small.logits(Prompt([image, "x"])), small.logits(Prompt([clip, "x"])))


def test_the_order_of_frames_matters_only_through_time_embeddings() -> None:
    x = features(1, 3)
    timed = resampler()
    assert (timed(x) - timed(x.flip(1))).abs().max() > 1e-3
    timeless = resampler(dataclasses.replace(CONFIG, frames=0))
    assert_close(timeless(x), timeless(x.flip(1)), atol=1e-5, rtol=1e-5)


def test_positions_of_the_grid_matter_only_with_embeddings() -> None:
    x = features(1, 1)
    without = resampler()
    assert_close(without(x), without(x.flip(2)), atol=1e-5, rtol=1e-5)
    averaged = resampler(dataclasses.replace(CONFIG, grid=4))
    assert (averaged(x) - averaged(x.flip(2))).abs().max() > 1e-3


def test_latents_are_among_the_keys() -> None:
    module = resampler(dataclasses.replace(CONFIG, layers=1))
    with torch.no_grad():
        for layer in module.layers:
            layer.get_parameter("attention.norm_features.weight").zero_()
            layer.get_parameter("attention.norm_features.bias").zero_()  # features become one constant token
    one, other = module(features(1, 1, positions=1)), module(features(1, 1, positions=9))
    # more copies of a constant draw attention away from the latents: were those not keys, nothing would change
    assert (one - other).abs().max() > 1e-3


def test_eight_time_embeddings_become_thirty() -> None:
    learned = torch.arange(8.0)[:, None].expand(-1, 3)
    stretched = time_embeddings(learned, 30)
    assert stretched.shape == (30, 3)
    assert_close(stretched[:, 0], torch.linspace(0, 7, 30))
    assert torch.equal(time_embeddings(learned, 5), learned[:5])
    assert torch.equal(time_embeddings(learned[:1], 4), learned[:1].expand(4, -1))


def test_time_embeddings_keep_half_precision() -> None:
    assert time_embeddings(torch.ones(8, 2, dtype=torch.bfloat16), 30).dtype == torch.bfloat16


def test_a_model_without_a_resampler_reads_the_encoder(tmp_path_factory: pytest.TempPathFactory) -> None:
    config = dataclasses.replace(SMALL, resampler=None)
    model = load_flamingo_model(save_small(tmp_path_factory.mktemp("bare"), config))
    assert model.visual_tokens(picture(0)).shape == (config.vision.positions, config.vision.width)
    one, other = model.logits(Prompt([picture(0), "x"])), model.logits(Prompt([picture(1), "x"]))
    assert (one - other).abs().max() > 1e-3


def test_pooling_averages_fields_and_frames() -> None:
    x = torch.arange(32.0).view(1, 2, 16, 1)  # two frames of 4 x 4
    out = Pooling(PoolingConfig(side=2))(x)
    fields = torch.tensor([[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]])
    assert_close(out, x.mean(dim=1)[:, fields].mean(dim=2))
    with pytest.raises(ValueError, match="17 positions do not form a square"):
        Pooling(PoolingConfig())(torch.zeros(1, 1, 17, 3))
