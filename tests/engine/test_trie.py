from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flamingo_eval.engine.trie import ROOT, TokenTrie

CANDIDATES = st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=5), min_size=1, max_size=12)


@given(CANDIDATES)
@settings(max_examples=60, deadline=None)
def test_every_candidate_is_a_path_and_every_beginning_one_node(candidates: list[list[int]]) -> None:
    trie = TokenTrie.of(candidates)
    for candidate, end in zip(candidates, trie.ends, strict=True):
        path = [end]
        while trie.parents[path[0]] != ROOT:
            path.insert(0, trie.parents[path[0]])
        assert [trie.tokens[n] for n in path] == candidate
    beginnings = {tuple(c[: i + 1]) for c in candidates for i in range(len(c))}
    assert len(trie.tokens) == len(beginnings)
    assert all(parent < node for node, parent in enumerate(trie.parents))


@given(CANDIDATES)
@settings(max_examples=60, deadline=None)
def test_sums_are_those_of_the_candidates_one_by_one(candidates: list[list[int]]) -> None:
    trie = TokenTrie.of(candidates)
    node_log_probs = torch.randn(2, len(trie.tokens), generator=torch.Generator().manual_seed(0))
    sums = trie.sums(node_log_probs)
    for i, end in enumerate(trie.ends):
        expected, node = torch.zeros(2, dtype=torch.float64), end
        while node != ROOT:
            expected += node_log_probs[:, node]
            node = trie.parents[node]
        torch.testing.assert_close(sums[:, i], expected)


def test_leaves_need_no_pass_and_see_only_their_own_beginning() -> None:
    trie = TokenTrie.of([[1, 2, 3], [1, 2, 4], [1, 5], [6]])
    assert [trie.tokens[n] for n in trie.inner] == [1, 2]
    assert trie.ancestry().tolist() == [[True, False], [True, True]]
    assert trie.lengths == (3, 3, 2, 1)


def test_single_tokens_need_no_pass_at_all() -> None:
    trie = TokenTrie.of([[1], [2], [1]])
    assert trie.inner == ()
    assert trie.ancestry().shape == (0, 0)
    assert trie.ends == (0, 1, 0)


def test_an_empty_candidate_is_refused() -> None:
    with pytest.raises(ValueError, match="without tokens"):
        TokenTrie.of([[1], []])
