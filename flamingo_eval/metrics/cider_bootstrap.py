"""CIDEr of bootstrap samples, with the document frequencies of each sample.

A sample is a weight for every picture. All that depends on the weights is idf(g) = ln N - ln max(1, df(g)); counts and
overlaps of n-grams do not change. Since idf is never negative, min(h, r) * r of weighted counts is
min(h, r) * r * idf^2, and a caption's similarity is sums of idf^2 over fixed lists of n-grams. Those lists are laid out
once, flat; a sample then costs a few passes over them.

Follows pycocoevalcap's cider_scorer.py: n = 1..4, sigma = 6, length penalty on the number of bigrams, x 10.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

N_GRAMS = 4
SIGMA = 6.0


def ngrams(caption: str) -> Counter[tuple[str, ...]]:
    """Counts of the caption's 1- to 4-grams."""
    words = caption.split()
    return Counter(tuple(words[i : i + n]) for n in range(1, N_GRAMS + 1) for i in range(len(words) - n + 1))


class _Sums:
    """Sums of coefficient x idf^2 over segments of a flat list of n-grams."""

    def __init__(self) -> None:
        self.gram: list[int] = []
        self.coefficient: list[float] = []
        self.segment: list[int] = []
        self.n = 0

    def add(self, terms: Sequence[tuple[int, float]]) -> None:
        """One more segment."""
        self.gram += [g for g, _ in terms]
        self.coefficient += [c for _, c in terms]
        self.segment += [self.n] * len(terms)
        self.n += 1

    def freeze(self) -> None:
        self.grams, self.segments = np.array(self.gram, np.int64), np.array(self.segment, np.int64)
        self.coefficients = np.array(self.coefficient, np.float64)

    def of(self, idf2: NDArray[np.float64]) -> NDArray[np.float64]:
        """float64[segments]"""
        return np.bincount(self.segments, self.coefficients * idf2[self.grams], self.n).astype(np.float64)


class CiderStatistics:
    """What CIDEr needs of every caption, for any weighting of the pictures."""

    def __init__(self, said: Sequence[str], given: Sequence[Sequence[str]]) -> None:
        index: dict[tuple[str, ...], int] = {}
        self.pictures = len(said)
        self.overlap, self.norm_said, self.norm_given = _Sums(), _Sums(), _Sums()
        pair_picture: list[int] = []
        penalty: list[float] = []
        has_gram: list[int] = []
        has_picture: list[int] = []
        for picture, (s, references) in enumerate(zip(said, given, strict=True)):
            counts = [ngrams(r) for r in references]
            for gram in dict.fromkeys(g for c in counts for g in c):
                has_gram.append(index.setdefault(gram, len(index)))
                has_picture.append(picture)
            mine = ngrams(s)
            bigrams = sum(c for g, c in mine.items() if len(g) == 2)
            for n in range(1, N_GRAMS + 1):
                self.norm_said.add(
                    [(index.setdefault(g, len(index)), float(c * c)) for g, c in mine.items() if len(g) == n]
                )
            for theirs in counts:
                delta = bigrams - sum(c for g, c in theirs.items() if len(g) == 2)
                pair_picture.append(picture)
                penalty.append(float(np.exp(-(delta**2) / (2 * SIGMA**2))))
                for n in range(1, N_GRAMS + 1):
                    here = [(index[g], c, mine.get(g, 0)) for g, c in theirs.items() if len(g) == n]
                    self.norm_given.add([(g, float(c * c)) for g, c, _ in here])
                    self.overlap.add([(g, float(min(c, m) * c)) for g, c, m in here if m])
        for sums in (self.overlap, self.norm_said, self.norm_given):
            sums.freeze()
        self.vocabulary = len(index)
        self.pair_picture = np.array(pair_picture, np.int64)
        self.penalty = np.array(penalty)
        self.references = np.bincount(self.pair_picture, minlength=self.pictures)
        self.has_gram, self.has_picture = np.array(has_gram, np.int64), np.array(has_picture, np.int64)

    def per_picture(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """CIDEr x 100 of every picture under these weights. float64[pictures] -> float64[pictures]"""
        df = np.bincount(self.has_gram, weights[self.has_picture], minlength=self.vocabulary)
        idf2 = (np.log(weights.sum()) - np.log(np.maximum(1.0, df))) ** 2
        said = np.sqrt(self.norm_said.of(idf2)).reshape(-1, N_GRAMS)[self.pair_picture]
        given = np.sqrt(self.norm_given.of(idf2)).reshape(-1, N_GRAMS)
        norms = said * given
        overlap = self.overlap.of(idf2).reshape(-1, N_GRAMS)
        cosine = np.divide(overlap, norms, out=overlap, where=norms != 0)
        pair = cosine.mean(axis=1) * self.penalty
        return 1000 * np.bincount(self.pair_picture, pair, minlength=self.pictures) / self.references

    def resample(self, rows: NDArray[np.int64]) -> float | None:
        """CIDEr x 100 of a bootstrap sample of the pictures; None if it holds one picture only."""
        weights = np.bincount(rows, minlength=self.pictures).astype(np.float64)
        if np.count_nonzero(weights) < 2:
            return None
        return float(weights @ self.per_picture(weights) / weights.sum())
