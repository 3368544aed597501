from __future__ import annotations

import torch

from flamingo_eval.engine.masks import chain_ancestors, chain_mask, trie_ancestors, trie_mask
from flamingo_eval.engine.trie import TokenTrie

LENGTHS = torch.tensor([3, 1])
COLUMNS = 4  # of the longest prompt, padded


def test_beams_see_the_prompt_and_their_own_tokens() -> None:
    chains = torch.tensor([[[4, 6], [4, 7]], [[5, 6], [4, 7]]])  # two prompts, two beams, second step
    mask = chain_mask(LENGTHS, COLUMNS, chains, 8)
    assert mask.int().tolist() == [
        [[1, 1, 1, 0, 1, 0, 1, 0], [1, 1, 1, 0, 1, 0, 0, 1]],
        [[1, 0, 0, 0, 0, 1, 1, 0], [1, 0, 0, 0, 1, 0, 0, 1]],
    ]


def test_the_tokens_before_a_beams_last_reach_into_the_prompt() -> None:
    chains = torch.tensor([[[4, 6]], [[5, 6]]])
    assert chain_ancestors(LENGTHS, chains, taps=4).tolist() == [[[4, 2, 1]], [[5, 0, -1]]]
    assert chain_ancestors(LENGTHS, chains[:, :, :1], taps=3).tolist() == [[[2, 1]], [[0, -1]]]


def test_candidates_see_the_prompt_and_their_own_beginning() -> None:
    tries = [TokenTrie.of([[1, 2, 3], [1, 4], [5, 6]]), TokenTrie.of([[1], [2]])]
    mask = trie_mask(LENGTHS, COLUMNS, tries, nodes=4)
    assert mask[0].int().tolist() == [
        [1, 1, 1, 0, 1, 0, 0, 0],  # 1
        [1, 1, 1, 0, 1, 1, 0, 0],  # 1 2
        [1, 1, 1, 0, 0, 0, 1, 0],  # 5
        [0] * 8,
    ]
    assert not mask[1].any()
    before = trie_ancestors([3, 1], COLUMNS, tries, nodes=4, taps=4)
    assert before[0].tolist() == [[2, 1, 0], [4, 2, 1], [2, 1, 0], [-1, -1, -1]]
