from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from flamingo_eval.models.config import DecoderConfig
from flamingo_eval.models.decoder import Decoder, alibi_slopes, causal_mask
from flamingo_eval.models.initialise import initialise
from flamingo_eval.models.kv_cache import KVCache
from tests.support.small_flamingo import SMALL

KINDS: dict[str, DecoderConfig] = {
    "relative": SMALL.decoder,
    "rotary": dataclasses.replace(SMALL.decoder, positions="rotary", rotary_dim=4),
    "alibi": dataclasses.replace(SMALL.decoder, positions="alibi"),
    "learned": dataclasses.replace(SMALL.decoder, positions="learned", position_offset=2),
    "grouped": dataclasses.replace(SMALL.decoder, positions="rotary", rotary_dim=8, kv_heads=2, qk_norm=True),
    "parallel": dataclasses.replace(
        SMALL.decoder, positions="rotary", rotary_dim=4, rotary_pairs="neighbours", parallel=True, shared_norm=True
    ),
    "short-conv": dataclasses.replace(SMALL.decoder, positions="rotary", rotary_dim=4, short_conv=4),
}


def decoder(kind: str) -> Decoder:
    model = Decoder(KINDS[kind])
    generator = torch.Generator().manual_seed(0)
    initialise(model, generator)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.15 * torch.randn(parameter.shape, generator=generator))
    return model.requires_grad_(False).eval()


TOKENS = torch.tensor([[3, 1, 4, 1, 5, 9, 2, 6]])


@pytest.mark.parametrize("kind", KINDS)
def test_no_token_sees_the_future(kind: str) -> None:
    model = decoder(kind)
    changed = TOKENS.clone()
    changed[0, 5:] = 7
    one, other = model(TOKENS), model(changed)
    assert_close(one[:, :5], other[:, :5])
    assert not torch.allclose(one[:, 5:], other[:, 5:])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pieces", [(8,), (5, 3), (1,) * 8, (2, 1, 4, 1)])
def test_the_cache_changes_nothing(kind: str, pieces: tuple[int, ...]) -> None:
    model, cache = decoder(kind), KVCache(2)
    parts = [model(part, cache=cache) for part in torch.split(TOKENS, list(pieces), dim=1)]
    assert cache.length == 8
    assert_close(torch.cat(parts, 1), model(TOKENS), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_changes_nothing(kind: str, side: str) -> None:
    model = decoder(kind)
    pad = torch.full((1, 3), 77)
    tokens = torch.cat([pad, TOKENS] if side == "left" else [TOKENS, pad], 1)
    real = tokens != 77
    logits = model(tokens, mask=causal_mask(real, tokens.shape[1]))
    assert logits.isfinite().all()
    assert_close(logits[:, real[0]], model(TOKENS), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_decoding_after_a_padded_prompt(kind: str) -> None:
    model = decoder(kind)
    prompts = torch.cat([torch.cat([torch.full((1, 3), 77), TOKENS[:, 2:7]], 1), TOKENS])  # rows of 5 and 8
    real = torch.tensor([[False] * 3 + [True] * 5, [True] * 8])
    cache = KVCache(2)
    model(prompts, mask=causal_mask(real, 8), cache=cache)
    new = torch.tensor([[8], [8]])
    mask = causal_mask(torch.cat([real, torch.ones(2, 1, dtype=torch.bool)], 1), 1)
    step = model(new, mask=mask, cache=cache)[:, 0]
    short = model(torch.cat([TOKENS[:, 2:7], new[:1]], 1))[0, -1]
    long = model(torch.cat([TOKENS, new[:1]], 1))[0, -1]
    assert_close(step, torch.stack([short, long]), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_branches_share_a_prompt_as_a_tree(kind: str) -> None:
    """Two continuations, [8, 9] and [7], in one pass over the nodes 8, 7, 9 (9 hangs on 8)."""
    model, cache = decoder(kind), KVCache(2)
    model(TOKENS, cache=cache)
    sees = torch.tensor(
        [[[True] * 8 + [True, False, False], [True] * 8 + [False, True, False], [True] * 8 + [True, False, True]]]
    )
    positions = torch.tensor([[8, 8, 9]])
    ancestors = torch.tensor([[[7, 6, 5], [7, 6, 5], [8, 7, 6]]])
    nodes = model(torch.tensor([[8, 7, 9]]), positions, sees, cache, ancestors)[0]
    one = model(torch.cat([TOKENS, torch.tensor([[8, 9]])], 1))[0]
    other = model(torch.cat([TOKENS, torch.tensor([[7]])], 1))[0]
    assert_close(nodes, torch.stack([one[-2], other[-1], one[-1]]), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ["relative", "rotary", "alibi"])
def test_only_distances_count(kind: str) -> None:
    model = decoder(kind)
    positions = torch.arange(8)[None]
    assert_close(model(TOKENS, positions + 11), model(TOKENS, positions), atol=2e-5, rtol=1e-4)


def test_learned_positions_are_absolute() -> None:
    model = decoder("learned")
    positions = torch.arange(8)[None]
    assert not torch.allclose(model(TOKENS, positions + 1), model(TOKENS, positions), atol=1e-3)


@pytest.mark.parametrize("kind", ["relative", "short-conv"])
def test_selected_rows_of_a_cache_go_on_alone(kind: str) -> None:
    model, cache = decoder(kind), KVCache(2)
    model(torch.cat([TOKENS, TOKENS.flip(1)]), cache=cache)
    chosen = cache.select(torch.tensor([1, 1, 0]))
    step = model(torch.tensor([[5], [6], [5]]), cache=chosen)[:, 0]
    assert cache.length == 8
    assert_close(step[2], model(torch.cat([TOKENS, torch.tensor([[5]])], 1))[0, -1], atol=1e-5, rtol=1e-5)
    assert_close(step[1], model(torch.cat([TOKENS.flip(1), torch.tensor([[6]])], 1))[0, -1], atol=1e-5, rtol=1e-5)


def test_alibi_slopes() -> None:
    assert_close(alibi_slopes(8, 8.0), torch.tensor([2.0**-i for i in range(1, 9)]))
    # 6 heads: every second of 8's, then the others
    assert_close(alibi_slopes(6, 8.0), torch.tensor([2.0**-i for i in (2, 4, 6, 8, 1, 3)]))


def test_relative_scores_follow_the_definition() -> None:
    """Dai et al.: (q + u) k + (q + v) r, entry by entry."""
    model = decoder("relative")
    attention: Any = model.blocks[0].attention
    x = torch.randn(1, 5, 32, generator=torch.Generator().manual_seed(3))
    q, k, v = attention.qkv(x).view(5, 3, 4, 8).unbind(1)  # each [S, H, d]
    relative = attention.relative
    scores = torch.full((4, 5, 5), -math.inf)
    for head in range(4):
        for i in range(5):
            for j in range(i + 1):
                angles = (i - j) * 10_000.0 ** (-torch.arange(0, 32, 2) / 32)
                r = relative.project(torch.cat([angles.sin(), angles.cos()])).view(4, 8)[head]
                content = (q[i, head] + relative.content_bias[head, 0]) @ k[j, head]
                scores[head, i, j] = (content + (q[i, head] + relative.distance_bias[head, 0]) @ r) / math.sqrt(8)
    mixed = torch.einsum("hij,jhd->ihd", scores.softmax(-1), v).flatten(1)
    expected = attention.out(mixed)
    assert_close(attention(x, 0, model.attention_view(torch.arange(5)[None]), None)[0], expected, atol=1e-5, rtol=1e-5)


def test_rows_that_were_never_set_cannot_be_generated() -> None:
    model = Decoder(dataclasses.replace(SMALL.decoder, tied_head=False, head_rows=250))
    logits = model(TOKENS)
    assert logits[..., :250].isfinite().all()
    assert (logits[..., 250:] == -math.inf).all()
