"""Log-likelihoods of candidates behind one prefill of their prompt: as a tree in one pass, or as rows of their own."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from flamingo_eval.backends.hf.network import Network, Prefilled
from flamingo_eval.engine.trie import TokenTrie

CANDIDATE_ROWS = 64  # candidates per pass, if they cannot be a tree


def tree_sums(network: Network, state: Prefilled, trie: TokenTrie) -> Tensor:
    """Log-likelihoods of all candidates from one pass over the inner nodes of their tree. -> float64[C]"""
    device = network.device
    first = torch.log_softmax(state.logits[0], dim=-1)
    tokens, parents = torch.tensor(trie.tokens), torch.tensor(trie.parents)
    scores = torch.empty(len(trie.tokens))
    is_root = parents < 0
    scores[is_root] = first[tokens[is_root].to(device)].cpu()
    if trie.inner:
        inner = torch.tensor(trie.inner)
        index_of = torch.full((len(trie.tokens),), -1)
        index_of[inner] = torch.arange(len(inner))
        depths = torch.tensor(trie.depths)[inner]
        logits = network.branch(state, tokens[inner].to(device), depths.to(device), trie.ancestry().to(device))
        log_probs = torch.log_softmax(logits, dim=-1)
        below = ~is_root
        scores[below] = log_probs[index_of[parents[below]].to(device), tokens[below].to(device)].cpu()
    return trie.sums(scores)


def row_sums(network: Network, state: Prefilled, candidates: Sequence[Sequence[int]]) -> Tensor:
    """The same with a copy of the cache for each candidate, some at a time, padded on the right. -> float64[C]"""
    device = network.device
    first = torch.log_softmax(state.logits[0], dim=-1)
    sums: list[Tensor] = []
    for start in range(0, len(candidates), CANDIDATE_ROWS):
        part = candidates[start : start + CANDIDATE_ROWS]
        longest = max(map(len, part))
        total = first[torch.tensor([ids[0] for ids in part], device=device)].double()
        if longest > 1:
            rows = state.rows(torch.zeros(len(part), dtype=torch.long, device=device))
            ids = torch.zeros(len(part), longest, dtype=torch.long)
            for row, candidate in enumerate(part):
                ids[row, : len(candidate)] = torch.tensor(candidate)
            is_token = torch.arange(longest)[None] < torch.tensor([len(c) for c in part])[:, None]
            ids, is_token = ids.to(device), is_token.to(device)
            logits = network.extend(rows, ids[:, :-1], is_token[:, :-1].long())
            log_probs = torch.log_softmax(logits, dim=-1).gather(2, ids[:, 1:, None])[:, :, 0]
            total = total + (log_probs * is_token[:, 1:]).double().sum(dim=1)
        sums.append(total)
    return torch.cat(sums).cpu()
