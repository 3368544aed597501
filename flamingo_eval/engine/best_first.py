"""Best-first search in a tree of candidates: the best one and its score from a part of the inner nodes.

A log-probability is at most 0, so no token makes a sum larger. Let s be the sum down to a node, and c a candidate below
it with the sum S_c and l_c tokens, of which m at most. Sums: S_c <= s. Means: S_c / l_c <= s / l_c <= s / m, where the
second step holds because s <= 0 and l_c <= m. So s, or s / m, bounds everything below, and a subtree whose bound is
below the score of a known candidate contains no better one. The most promising nodes are read first.

Passes of different shapes agree only up to rounding. If another candidate is closer to the best one than `margin`, the
search does not decide between them: all nodes are read, as for a full ranking, so that both name the same candidate.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flamingo_eval.engine.batching import rounded_up
from flamingo_eval.engine.trie import ROOT, TokenTrie
from flamingo_eval.records import Best

AT_ONCE = {"cpu": 16, "cuda": 32}  # nodes of a prompt that are read in one step; at least encoding.MIN_ROWS


@dataclass(frozen=True, slots=True)
class SearchTree:
    """A tree of N nodes, with what a search needs to know about them.

    `children` has one entry a node, and ROOT's at its end. `longest` is the number of tokens of the longest candidate
    at or below each node. `first` gives the candidate that ends at a node; of equal candidates, the first.
    """

    trie: TokenTrie
    children: tuple[tuple[int, ...], ...]
    longest: tuple[int, ...]
    first: Mapping[int, int]

    @classmethod
    def of(cls, trie: TokenTrie) -> SearchTree:
        children: list[list[int]] = [[] for _ in range(len(trie.parents) + 1)]
        for node, parent in enumerate(trie.parents):
            children[parent].append(node)  # ROOT is -1, the last
        longest = [depth + 1 for depth in trie.depths]
        for node in reversed(range(len(longest))):  # children before parents
            parent = trie.parents[node]
            if parent != ROOT:
                longest[parent] = max(longest[parent], longest[node])
        first = {trie.ends[c]: c for c in reversed(range(len(trie.ends)))}
        return cls(trie, tuple(map(tuple, children)), tuple(longest), first)


def all_columns(tree: SearchTree) -> int:
    """Number of columns for all inner nodes."""
    return rounded_up(len(tree.trie.inner))


def worth_searching(tree: SearchTree, at_once: int) -> bool:
    """Whether a search can save work: it takes at least one step for each token of the best candidate."""
    return len(tree.trie.inner) > at_once * max(tree.longest)


def search_columns(tree: SearchTree, at_once: int) -> int:
    """Columns reserved for a search: all inner nodes; steps need as many columns as one pass.

    A step uses all of its columns even if there is less to read, so there is one more per token of the longest.
    """
    return rounded_up(len(tree.trie.inner), at_once) + at_once * max(tree.longest)


class Search:
    """One prompt's search. Ask `take` which nodes to read, and tell `learn` what their children's tokens scored.

    `branches` holds, for every node that was taken, the columns of the cache with its branch, its own last.
    """

    def __init__(self, tree: SearchTree, mean: bool, margin: float) -> None:
        self.tree, self.mean, self.margin = tree, mean, margin
        self.branches: dict[int, tuple[int, ...]] = {ROOT: ()}
        self._sums = {ROOT: 0.0}  # of the nodes with children, in double precision as in TokenTrie.sums
        self._open: list[tuple[float, int]] = []  # (-bound, node): the most promising first; ties go to the first node
        self._best: Best | None = None
        self._second = -math.inf  # the best score of a candidate that ends elsewhere
        self._lost = False  # comparisons with NaN are always false

    def take(self, limit: int, column: int) -> list[int]:
        """Up to `limit` nodes that may lead to the best candidate, to be read into the columns from `column` on."""
        nodes: list[int] = []
        while len(nodes) < limit and not self.done:
            _, node = heapq.heappop(self._open)
            self.branches[node] = (*self.branches[self.tree.trie.parents[node]], column + len(nodes))
            nodes.append(node)
        return nodes

    @property
    def taken(self) -> int:
        """Number of nodes that were read or are being read."""
        return len(self.branches) - 1

    def learn(self, node: int, log_probs: Sequence[float]) -> None:
        """Log-probability of each child of a node that was read; of ROOT's, at the prompt's end, to begin with."""
        for child, log_prob in zip(self.tree.children[node], log_probs, strict=True):
            total = self._sums[node] + log_prob
            self._lost |= math.isnan(total)
            candidate = self.tree.first.get(child)
            if candidate is not None:
                self._complete(candidate, total / self.tree.trie.lengths[candidate] if self.mean else total)
            if self.tree.children[child]:
                self._sums[child] = total
                heapq.heappush(self._open, (-total / self.tree.longest[child] if self.mean else -total, child))

    @property
    def done(self) -> bool:
        """Whether no remaining node can come near the best candidate."""
        return self._lost or not self._open or (self._best is not None and -self._open[0][0] < self._least)

    @property
    def found(self) -> Best | None:
        """The best candidate; None if the search is not done, or if another one is too close to decide."""
        decided = self.done and not self._lost and self._best is not None and self._second < self._least
        return self._best if decided else None

    @property
    def _least(self) -> float:
        """A bound: anything below it is worse than the best candidate, whatever the rounding."""
        return -math.inf if self._best is None else self._best.score - self.margin

    def _complete(self, candidate: int, score: float) -> None:
        if self._best is None or score > self._best.score:
            if self._best is not None:
                self._second = self._best.score
            self._best = Best(candidate, score)
        else:
            self._second = max(self._second, score)
