"""Candidate answers as a tree of tokens: what they share is computed once, and every sum stays exact.

A thousand class names have far fewer distinct beginnings than tokens. Node n stands for one token after one beginning;
its log-probability is asked for at its parent (or, for the first tokens, at the prompt's last token), so that leaves
need no pass through the model at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

ROOT = -1


@dataclass(frozen=True, slots=True)
class TokenTrie:
    """N nodes, parents before children.

    `tokens`, `parents` (ROOT at the top) and `depths` (0 at the top) have one entry a node. `ends[c]` is candidate c's
    last node, `lengths[c]` its number of tokens. `inner` lists the nodes that have children, in order: the only ones
    the model has to see.
    """

    tokens: tuple[int, ...]
    parents: tuple[int, ...]
    depths: tuple[int, ...]
    ends: tuple[int, ...]
    lengths: tuple[int, ...]
    inner: tuple[int, ...]

    @classmethod
    def of(cls, candidates: Sequence[Sequence[int]]) -> TokenTrie:
        """The tree of some candidates' token ids. Equal candidates share their last node; none may be empty."""
        tokens: list[int] = []
        parents: list[int] = []
        depths: list[int] = []
        ends: list[int] = []
        found: dict[tuple[int, int], int] = {}
        for candidate in candidates:
            if not candidate:
                raise ValueError("a candidate without tokens cannot be scored")
            node = ROOT
            for depth, token in enumerate(candidate):
                known = found.get((node, token))
                if known is None:
                    known = found[node, token] = len(tokens)
                    tokens.append(token)
                    parents.append(node)
                    depths.append(depth)
                node = known
            ends.append(node)
        inner = sorted(set(parents) - {ROOT})
        return cls(*map(tuple, (tokens, parents, depths, ends, map(len, candidates), inner)))

    def ancestry(self) -> Tensor:
        """Which inner nodes each inner node may look at: itself and those above it. bool[I, I], by place in `inner`"""
        place = {node: i for i, node in enumerate(self.inner)}
        sees = torch.zeros(len(self.inner), len(self.inner), dtype=torch.bool)
        for node, i in place.items():
            parent = self.parents[node]
            if parent != ROOT:
                sees[i] = sees[place[parent]]
            sees[i, i] = True
        return sees

    def sums(self, node_log_probs: Tensor) -> Tensor:
        """Log-likelihood of each candidate from that of each node. float[..., N] -> float64[..., C]

        Summed in double precision, down the tree, so that the order of the candidates leaves no trace.
        """
        levels: list[list[int]] = [[] for _ in range(max(self.depths) + 1)]
        for node, depth in enumerate(self.depths):
            levels[depth].append(node)
        totals = node_log_probs.double()
        parents = torch.tensor(self.parents, device=totals.device)
        for level in levels[1:]:
            nodes = torch.tensor(level, device=totals.device)
            totals = totals.index_add(-1, nodes, totals.index_select(-1, parents[nodes]))
        return totals.index_select(-1, torch.tensor(self.ends, device=totals.device))
