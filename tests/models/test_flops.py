"""Counts of operations against sums done by hand from the shapes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from flamingo_eval.models.config import ResamplerConfig, ViTConfig
from flamingo_eval.models.flops import ModelFlops
from flamingo_eval.models.presets import PRESETS

OPENFLAMINGO = PRESETS["openflamingo-9b"]
SMALL = replace(
    OPENFLAMINGO,
    vision=ViTConfig(image_size=56, patch=14, width=1024, layers=2, heads=16, ff_width=256),
    preprocess=replace(OPENFLAMINGO.preprocess, size=56),
    decoder=replace(OPENFLAMINGO.decoder, layers=4, width=128, heads=4, kv_heads=4, head_dim=32, ff_width=512),
)


@pytest.fixture(scope="module")
def flops() -> ModelFlops:
    return ModelFlops(SMALL)


def test_reading_is_what_the_matrices_say(flops: ModelFlops) -> None:
    """Two operations a weight and token; in attention, two products of each token with all tokens and all latents."""
    width, ff, vocabulary = 128, 512, SMALL.decoder.vocabulary
    decoder = 4 * (4 * width * width + 2 * width * ff)
    assert isinstance(SMALL.resampler, ResamplerConfig)
    inner, latents = SMALL.xattn.heads * SMALL.xattn.head_dim, SMALL.resampler.latents
    gated = len(SMALL.xattn_blocks) * (2 * width * inner + 2 * width * SMALL.xattn.ff_width)
    for length in (1, 7, 100):
        attention = 4 * 2 * 2 * width * length * length + len(SMALL.xattn_blocks) * 2 * 2 * inner * length * latents
        assert flops.reading(length) == 2 * (decoder + gated) * length + attention
    assert flops.next_token(9) == flops.reading(10) - flops.reading(9) + 2 * width * vocabulary


def test_keys_of_a_picture(flops: ModelFlops) -> None:
    assert isinstance(SMALL.resampler, ResamplerConfig)
    inner = SMALL.xattn.heads * SMALL.xattn.head_dim
    a_block = 2 * SMALL.resampler.latents * SMALL.visual_width * 2 * inner
    assert flops.visual_keys == len(SMALL.xattn_blocks) * a_block
    assert flops.visual_tokens == SMALL.resampler.latents * SMALL.visual_width


def test_every_frame_is_encoded_and_all_are_resampled_at_once(flops: ModelFlops) -> None:
    one, two, three = (flops.picture(n) for n in (1, 2, 3))
    assert two - one == three - two
    assert one < two < 2 * one  # the latents' own products are done once a clip


def test_no_weights_are_made() -> None:
    flops = ModelFlops(PRESETS["flamingo-80b"])
    assert 75e9 < flops.parameters < 95e9
    assert all(p.is_meta for p in flops.flamingo.parameters())
