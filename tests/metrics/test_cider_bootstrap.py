"""Resampled CIDEr against the toolkit's own scorer on the resampled captions."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
from pycocoevalcap.cider.cider import Cider

from flamingo_eval.metrics.cider_bootstrap import CiderStatistics

WORDS = ["a", "the", "dog", "cat", "red", "ball", "runs", "on", "grass", "with", "two", "men"]


def captions(n: int, seed: int) -> tuple[list[str], list[list[str]]]:
    """Predictions and one to three references of n pictures, from few words, so that n-grams are shared or not."""
    rng = Random(seed)

    def caption() -> str:
        return " ".join(rng.choice(WORDS) for _ in range(rng.randrange(9)))

    return [caption() for _ in range(n)], [[caption() for _ in range(rng.randint(1, 3))] for _ in range(n)]


def toolkit(predictions: list[str], references: list[list[str]], rows: np.ndarray) -> float:
    score, _ = Cider().compute_score(
        {j: references[i] for j, i in enumerate(rows)}, {j: [predictions[i]] for j, i in enumerate(rows)}
    )
    return 100 * float(score)


@pytest.mark.parametrize("seed", range(4))
def test_a_sample_scores_as_the_toolkit_scores_its_captions(seed: int) -> None:
    predictions, references = captions(25, seed)
    statistics = CiderStatistics(predictions, references)
    rng = np.random.default_rng(seed)
    samples = [np.arange(25), *(rng.integers(25, size=25) for _ in range(8)), np.array([3, 3, 3, 7])]
    for rows in samples:
        assert statistics.resample(rows) == pytest.approx(toolkit(predictions, references, rows), abs=1e-9)


def test_a_sample_of_one_picture_is_undefined() -> None:
    assert CiderStatistics(*captions(5, 0)).resample(np.array([2, 2, 2, 2, 2])) is None
