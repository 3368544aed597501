"""What a token that branches off a prompt sees: the prompt, and the tokens of its own branch.

Shapes: B prompts, L columns of the longest prompt (shorter ones are padded on the right), N branching tokens of this
pass, T all columns so far, t tokens of a branch, taps of the short convolution.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from flamingo_eval.engine.trie import ROOT, TokenTrie


def chain_mask(lengths: Tensor, columns: int, chains: Tensor, total: int) -> Tensor:
    """int64[B] lengths of the prompts, L, int64[B, N, t] columns of each branch, T -> bool[B, N, T]"""
    prompt = prompt_mask(lengths, columns).expand(-1, chains.shape[1], -1)
    branch = torch.zeros(*chains.shape[:2], total - columns, dtype=torch.bool, device=chains.device)
    return torch.cat([prompt, branch.scatter(2, chains - columns, True)], dim=2)


def prompt_mask(lengths: Tensor, columns: int) -> Tensor:
    """Which columns hold the prompt itself. int64[B] -> bool[B, 1, L]"""
    return torch.arange(columns, device=lengths.device)[None, None, :] < lengths[:, None, None]


def chain_ancestors(lengths: Tensor, chains: Tensor, taps: int) -> Tensor:
    """Columns of the tokens before the last of each branch, nearest first; -1 before the prompt's first.

    int64[B], int64[B, N, t] -> int64[B, N, taps - 1]
    """
    steps_back = torch.arange(taps - 1, 0, -1, device=lengths.device)
    end_of_prompt = (lengths[:, None] - steps_back).clamp(min=-1)[:, None].expand(-1, chains.shape[1], -1)
    previous_columns = torch.cat([end_of_prompt, chains[:, :, :-1]], dim=2)
    return previous_columns[:, :, previous_columns.shape[2] - (taps - 1) :].flip(2)


def trie_mask(lengths: Tensor, columns: int, tries: Sequence[TokenTrie], nodes: int) -> Tensor:
    """What the inner nodes of each prompt's trie see. Tries are padded to N nodes; padding sees nothing.

    -> bool[B, N, T]
    """
    tree = torch.stack([F.pad(t.ancestry(), (0, nodes - len(t.inner)) * 2) for t in tries]).to(lengths.device)
    return torch.cat([prompt_mask(lengths, columns).expand(-1, nodes, -1) & tree.any(2, keepdim=True), tree], dim=2)


def path_mask(
    lengths: Tensor, columns: int, paths: Sequence[Sequence[Sequence[int]]], nodes: int, total: int
) -> Tensor:
    """What some nodes of each prompt's tree see; their branches may be in any columns after the prompt.

    `paths`: for each prompt and node the columns of its branch, its own last. Padded to N nodes; padding sees nothing.
    -> bool[B, N, T]
    """
    tree = torch.zeros(len(paths), nodes, total - columns, dtype=torch.bool)
    visible = [
        (row, i, column - columns)
        for row, row_paths in enumerate(paths)
        for i, path in enumerate(row_paths)
        for column in path
    ]
    tree[tuple(torch.tensor(visible).T)] = True
    tree = tree.to(lengths.device)
    return torch.cat([prompt_mask(lengths, columns).expand(-1, nodes, -1) & tree.any(2, keepdim=True), tree], dim=2)


def path_ancestors(lengths: Sequence[int], paths: Sequence[Sequence[Sequence[int]]], nodes: int, taps: int) -> Tensor:
    """As `chain_ancestors`, for branches as in `path_mask`. -> int64[B, N, taps - 1]"""
    rows = torch.full((len(paths), nodes, taps - 1), -1)
    for row, (length, row_paths) in enumerate(zip(lengths, paths, strict=True)):
        prompt = [max(length - j, -1) for j in range(1, taps)]
        for i, path in enumerate(row_paths):
            rows[row, i] = torch.tensor([*reversed(path[:-1]), *prompt][: taps - 1])
    return rows


def trie_ancestors(lengths: Sequence[int], columns: int, tries: Sequence[TokenTrie], nodes: int, taps: int) -> Tensor:
    """As `chain_ancestors`, for the inner nodes of tries. -> int64[B, N, taps - 1]"""
    rows = torch.full((len(tries), nodes, taps - 1), -1)
    for row, (length, trie) in enumerate(zip(lengths, tries, strict=True)):
        column_of = {node: i for i, node in enumerate(trie.inner)}
        prompt = [max(length - j, -1) for j in range(1, taps)]
        ancestors: dict[int, list[int]] = {}
        for node, i in column_of.items():
            parent = trie.parents[node]
            ancestors[node] = (
                prompt if parent == ROOT else [columns + column_of[parent], *ancestors[parent]][: taps - 1]
            )
            rows[row, i] = torch.tensor(ancestors[node])
    return rows
