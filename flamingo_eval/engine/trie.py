"""Candidate answers as a tree of tokens: shared beginnings are computed once, and every sum is exact.

A thousand class names have far fewer distinct beginnings than tokens. Node n stands for one token after one beginning;
its log-probability comes from its parent's state (for first tokens, the state of the prompt's last token), so leaves do
not go through the model at all.
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
    last node, `lengths[c]` its number of tokens. `inner` lists the nodes that have children, in order: only these go
    through the model.
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
        nodes: dict[tuple[int, int], int] = {}
        for candidate in candidates:
            if not candidate:
                raise ValueError("a candidate without tokens cannot be scored")
            node = ROOT
            for depth, token in enumerate(candidate):
                child = nodes.get((node, token))
                if child is None:
                    child = nodes[node, token] = len(tokens)
                    tokens.append(token)
                    parents.append(node)
                    depths.append(depth)
                node = child
            ends.append(node)
        inner = sorted(set(parents) - {ROOT})
        return cls(*map(tuple, (tokens, parents, depths, ends, map(len, candidates), inner)))

    def ancestry(self) -> Tensor:
        """Which inner nodes each inner node sees: itself and those above it. bool[I, I], by index in `inner`"""
        index_of = {node: i for i, node in enumerate(self.inner)}
        mask = torch.zeros(len(self.inner), len(self.inner), dtype=torch.bool)
        for node, i in index_of.items():
            parent = self.parents[node]
            if parent != ROOT:
                mask[i] = mask[index_of[parent]]
            mask[i, i] = True
        return mask

    def sums(self, node_log_probs: Tensor) -> Tensor:
        """Log-likelihood of each candidate from that of each node. float[..., N] -> float64[..., C]

        Summed in double precision, down the tree, so that the order of the candidates does not matter.
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
