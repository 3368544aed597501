"""Hints: the nearest word, whatever its case and its hyphens."""

from __future__ import annotations

import pytest

from flamingo_eval.errors import did_you_mean

TASKS = ("coco", "ivqa", "okvqa", "vqav2", "hateful_memes", "vl_icl_open_mi")


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("VQAv2", "vqav2"),
        ("vqa", "vqav2"),
        ("OK-VQA", "okvqa"),
        ("hateful-memes", "hateful_memes"),
        ("cocoo", "coco"),
        ("open_mi", "vl_icl_open_mi"),
    ],
)
def test_the_nearest_word(word: str, hint: str) -> None:
    assert did_you_mean(word, TASKS) == f"Did you mean '{hint}'?"


@pytest.mark.parametrize("word", ["", "x", "something else"])
def test_nothing_near(word: str) -> None:
    assert did_you_mean(word, TASKS) == ""
