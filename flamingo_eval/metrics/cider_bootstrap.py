"""CIDEr of bootstrap samples, with the document frequencies of each sample.

A sample is a weight for every picture. Only idf(g) = ln N - ln max(1, df(g)) depends on the weights; counts and
overlaps of n-grams do not. Since idf is never negative, min(h, r) * r of weighted counts is min(h, r) * r * idf^2, so a
caption's similarity is made of sums of (coefficient x idf^2) over fixed lists of n-grams. These lists are built once,
as flat arrays, and a sample needs a few passes over them. Most n-grams occur in only one picture: their document
frequency is that picture's own weight, so they are summed into one term.

Follows pycocoevalcap's cider_scorer.py: n = 1..4, sigma = 6, length penalty on the number of bigrams, x 10.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence, Set

import numpy as np
from numpy.typing import NDArray

N_GRAMS = 4
SIGMA = 6.0

Gram = tuple[str, ...]


def ngrams(caption: str) -> Counter[Gram]:
    """Counts of the caption's 1- to 4-grams."""
    words = caption.split()
    return Counter(tuple(words[i : i + n]) for n in range(1, N_GRAMS + 1) for i in range(len(words) - n + 1))


class _Sums:
    """One sum of coefficient x idf^2 for each segment (a caption, or a pair of captions, and an n)."""

    def __init__(self, shared: dict[Gram, int], own: Set[Gram]) -> None:
        self.shared, self.own = shared, own
        self.gram: list[int] = []  # n-grams of several pictures
        self.coefficient: list[float] = []
        self.first: list[int] = []  # where a segment begins in these lists
        self.own_sum: list[float] = []  # coefficients of n-grams that only the segment's picture has
        self.unseen_sum: list[float] = []  # and of those that no reference has
        self.picture: list[int] = []

    def add(self, picture: int, terms: Iterable[tuple[Gram, float]]) -> None:
        """Add one segment."""
        self.first.append(len(self.gram))
        self.picture.append(picture)
        own, unseen = 0.0, 0.0
        for gram, coefficient in terms:
            index = self.shared.get(gram)
            if index is not None:
                self.gram.append(index)
                self.coefficient.append(coefficient)
            elif gram in self.own:
                own += coefficient
            else:
                unseen += coefficient
        self.own_sum.append(own)
        self.unseen_sum.append(unseen)

    def freeze(self) -> None:
        """Convert to arrays; a final zero keeps empty last segments inside the lists."""
        self.grams = np.array([*self.gram, 0], np.int32)
        self.coefficients = np.array([*self.coefficient, 0.0])
        self.firsts = np.array(self.first, np.int64)
        self.empty = np.diff([*self.first, len(self.gram)]) == 0
        self.owns, self.unseens = np.array(self.own_sum), np.array(self.unseen_sum)
        self.pictures = np.array(self.picture, np.int64)

    def of(self, idf2: NDArray[np.float64], own_idf2: NDArray[np.float64], last: float) -> NDArray[np.float64]:
        """float64[segments / 4, 4], from idf^2 of the shared n-grams, of each picture's own, and of unseen ones."""
        sums = np.add.reduceat(self.coefficients * idf2[self.grams], self.firsts)
        sums[self.empty] = 0.0
        sums += self.owns * own_idf2[self.pictures] + self.unseens * last
        return sums.reshape(-1, N_GRAMS)


class CiderStatistics:
    """What CIDEr needs of every caption, for any weighting of the pictures."""

    def __init__(self, candidates: Sequence[str], reference_texts: Sequence[Sequence[str]]) -> None:
        predictions = [ngrams(s) for s in candidates]
        references = [[ngrams(r) for r in rs] for rs in reference_texts]
        grams_of = [dict.fromkeys(g for counts in rs for g in counts) for rs in references]
        times = Counter(g for grams in grams_of for g in grams)
        owner = {g: picture for picture, grams in enumerate(grams_of) for g in grams if times[g] == 1}
        shared_candidate_grams = {
            g for picture, counts in enumerate(predictions) for g in counts if owner.get(g, picture) != picture
        }
        shared = {g: i for i, g in enumerate(g for g, n in times.items() if n > 1 or g in shared_candidate_grams)}
        own = owner.keys() - shared_candidate_grams
        self.overlap, self.norm_said, self.norm_given = (_Sums(shared, own) for _ in range(3))
        pair_picture: list[int] = []
        penalty: list[float] = []
        for picture, (candidate_counts, rs) in enumerate(zip(predictions, references, strict=True)):
            for n in range(1, N_GRAMS + 1):
                self.norm_said.add(picture, ((g, float(c * c)) for g, c in candidate_counts.items() if len(g) == n))
            for reference_counts in rs:
                delta = _bigrams(candidate_counts) - _bigrams(reference_counts)
                pair_picture.append(picture)
                penalty.append(float(np.exp(-(delta**2) / (2 * SIGMA**2))))
                for n in range(1, N_GRAMS + 1):
                    grams_of_n = [(g, c) for g, c in reference_counts.items() if len(g) == n]
                    self.norm_given.add(picture, ((g, float(c * c)) for g, c in grams_of_n))
                    self.overlap.add(
                        picture,
                        ((g, float(min(c, candidate_counts[g]) * c)) for g, c in grams_of_n if g in candidate_counts),
                    )
        for sums in (self.overlap, self.norm_said, self.norm_given):
            sums.freeze()
        occurrences = [(shared[g], picture) for picture, grams in enumerate(grams_of) for g in grams if g in shared]
        self.has_gram = np.array([g for g, _ in occurrences], np.int64)
        self.has_picture = np.array([p for _, p in occurrences], np.int64)
        self.pictures, self.vocabulary = len(candidates), max(1, len(shared))
        self.pair_picture, self.penalty = np.array(pair_picture, np.int64), np.array(penalty)
        self.references = np.bincount(self.pair_picture, minlength=self.pictures)

    def per_picture(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """CIDEr x 100 of every picture under these weights. float64[pictures] -> float64[pictures]"""
        log_n = float(np.log(weights.sum()))
        df = np.bincount(self.has_gram, weights[self.has_picture], minlength=self.vocabulary)
        idf2 = (log_n - np.log(np.maximum(1.0, df))) ** 2
        own_idf2 = (log_n - np.log(np.maximum(1.0, weights))) ** 2
        prediction_norm, reference_norm, overlap = (
            s.of(idf2, own_idf2, log_n**2) for s in (self.norm_said, self.norm_given, self.overlap)
        )
        norms = np.sqrt(prediction_norm)[self.pair_picture] * np.sqrt(reference_norm)
        cosine = np.divide(overlap, norms, out=overlap, where=norms != 0)
        pair = cosine.mean(axis=1) * self.penalty
        return 1000 * np.bincount(self.pair_picture, pair, minlength=self.pictures) / self.references

    def resample(self, rows: NDArray[np.int64]) -> float | None:
        """CIDEr x 100 of a bootstrap sample of the pictures; None if it has only one picture."""
        weights = np.bincount(rows, minlength=self.pictures).astype(np.float64)
        if np.count_nonzero(weights) < 2:
            return None
        return float(weights @ self.per_picture(weights) / weights.sum())


def _bigrams(counts: Counter[Gram]) -> int:
    return sum(c for g, c in counts.items() if len(g) == 2)
