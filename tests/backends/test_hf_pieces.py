"""Where a long prompt is divided into pieces."""

from __future__ import annotations

import torch

from flamingo_eval.backends.hf.pieces import Piece, pieces

IMAGE = 9


def test_a_piece_ends_before_the_picture_that_it_would_cut() -> None:
    ids = torch.tensor([1, 1, IMAGE, IMAGE, IMAGE, 1, 1, IMAGE, IMAGE, IMAGE, 1, 1])
    assert pieces(ids, IMAGE, [3, 3], 4) == [Piece(2, 0), Piece(7, 1), Piece(12, 2)]


def test_text_is_cut_anywhere() -> None:
    assert pieces(torch.ones(10, dtype=torch.long), IMAGE, [], 5) == [Piece(5, 0), Piece(10, 0)]


def test_a_picture_longer_than_a_piece_is_one_piece() -> None:
    ids = torch.tensor([1, *[IMAGE] * 8, 1, 1, 1])
    assert pieces(ids, IMAGE, [8], 3) == [Piece(1, 0), Piece(9, 1), Piece(12, 1)]


def test_a_prompt_whose_pictures_cannot_be_told_apart_is_read_whole() -> None:
    ids = torch.tensor([1, IMAGE, IMAGE, 1, 1, 1])
    assert pieces(ids, IMAGE, [1, 2], 2) == [Piece(6, 2)]
