from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from flamingo_eval.engine.picture_attention import PIECE, Pieces, attend_own_picture, gated_step
from flamingo_eval.models.flamingo import Flamingo
from flamingo_eval.models.xattn import GatedXattn, image_mask
from tests.support.small_flamingo import SMALL, open_gates

CPU = torch.device("cpu")


@pytest.fixture
def layer() -> GatedXattn:
    gated = open_gates(Flamingo(SMALL)).gated_block(0)
    assert gated is not None
    return gated


def test_each_token_gets_what_masking_all_pictures_would_give(layer: GatedXattn) -> None:
    sees = [[-1] * 3 + [0] * 40 + [2] * 5 + [-1] * 2, [1] * 30 + [0] * 20]
    x = torch.randn(2, 50, 32, generator=torch.Generator().manual_seed(0))
    keys, values = layer.project_visual(torch.randn(3, 3, 24, generator=torch.Generator().manual_seed(1)))
    pieces = Pieces.of(sees, CPU)
    assert pieces is not None
    attended = attend_own_picture(layer.attention, x, (keys, values), pieces)
    all_keys, all_values = (part.transpose(0, 1).flatten(1, 2).expand(2, -1, -1, -1) for part in (keys, values))
    mask = image_mask(torch.tensor(sees) + 1, images=3, latents=3)
    torch.testing.assert_close(attended, layer.attention(x, all_keys, all_values, mask))


def test_pieces_hold_one_picture_each() -> None:
    pieces = Pieces.of([[0] * (PIECE + 1) + [1] * 2 + [-1]], CPU)
    assert pieces is not None
    assert pieces.tokens.shape == (3, PIECE)
    assert pieces.pictures is not None
    assert pieces.pictures.tolist() == [0, 0, 1]
    assert pieces.token_indices.tolist() == list(range(PIECE + 3))
    assert pieces.tokens.flatten()[pieces.placed].tolist() == pieces.token_indices.tolist()


def test_no_pictures_no_pieces() -> None:
    assert Pieces.of([[-1, -1]], CPU) is None
    assert Pieces.of_rows(2, 3, [False, False], CPU) is None


def test_rows_that_see_nothing_get_zeros(layer: GatedXattn) -> None:
    x = torch.randn(2, 4, 32, generator=torch.Generator().manual_seed(0))
    visual = layer.project_visual(torch.randn(2, 3, 24, generator=torch.Generator().manual_seed(1)))
    pieces = Pieces.of_rows(2, 4, [True, False], CPU)
    assert pieces is not None
    attended = attend_own_picture(layer.attention, x, visual, pieces)
    assert attended[0].abs().min() > 0
    assert attended[1].abs().max() == 0


def test_a_step_keeps_text_as_the_whole_model_does() -> None:
    gated = open_gates(Flamingo(replace(SMALL, xattn=replace(SMALL.xattn, keeps_text=True)))).gated_block(0)
    assert gated is not None
    sees = [[-1, -1, 0, 0], [-1, -1, -1, 1]]
    x = torch.randn(2, 4, 32, generator=torch.Generator().manual_seed(0))
    visual = gated.project_visual(torch.randn(2, 3, 24, generator=torch.Generator().manual_seed(1)))
    stepped = gated_step(gated, x, visual, Pieces.of(sees, CPU))
    in_batch = tuple(part.expand(2, -1, -1, -1, -1) for part in visual)
    whole = gated(x, in_batch, image_mask(torch.tensor(sees) + 1, images=2, latents=3))
    torch.testing.assert_close(stepped, whole)
    assert torch.equal(stepped[0, :2], x[0, :2])
    assert torch.equal(gated_step(gated, x, visual, None), x)
