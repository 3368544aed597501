from __future__ import annotations

import random

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flamingo_eval.engine.best_first import AT_ONCE, Search, SearchTree, all_columns, search_columns, worth_searching
from flamingo_eval.engine.trie import ROOT, TokenTrie
from flamingo_eval.records import Best, best_of

CANDIDATES = st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=6), min_size=1, max_size=40)


def ranked(trie: TokenTrie, log_probs: list[float], mean: bool) -> list[float]:
    sums = trie.sums(torch.tensor(log_probs)).tolist()
    return [s / n if mean else s for s, n in zip(sums, trie.lengths, strict=True)]


def searched(tree: SearchTree, log_probs: list[float], mean: bool, margin: float, at_once: int) -> Search:
    search = Search(tree, mean, margin)
    taken = [ROOT]
    while taken:
        for node in taken:
            search.learn(node, [log_probs[child] for child in tree.children[node]])
        taken = search.take(at_once, 10 + search.taken)
    return search


@given(CANDIDATES, st.booleans(), st.integers(1, 9), st.integers(0, 10_000))
@settings(max_examples=300, deadline=None)
def test_finds_what_a_full_ranking_puts_first(candidates: list[list[int]], mean: bool, at_once: int, seed: int) -> None:
    tree = SearchTree.of(TokenTrie.of(candidates))
    drawn = random.Random(seed)
    log_probs = [drawn.choice((-drawn.random() * 3, 0.0, -1.0, -20.0)) for _ in tree.trie.tokens]  # ties are common
    log_probs = torch.tensor(log_probs).tolist()  # as float32 has them
    scores = ranked(tree.trie, log_probs, mean)
    search = searched(tree, log_probs, mean, 1e-6, at_once)
    rivals = {tree.trie.ends[c] for c, s in enumerate(scores) if s >= max(scores) - 1e-6}
    assert search.done
    if len(rivals) > 1:
        assert search.found is None
    else:
        assert search.found == Best(best_of(scores), max(scores))


def test_a_bound_prunes_what_lies_below() -> None:
    tree = SearchTree.of(TokenTrie.of([[1, 2, 3], [4, 5], [6, 7, 8], [6, 7, 9]]))
    search = Search(tree, mean=False, margin=0.1)
    search.learn(ROOT, [-1.0, -0.5, -3.0])  # 1, 4, 6
    assert search.take(1, 100) == [tree.trie.parents[tree.trie.ends[1]]]  # 4
    search.learn(search.tree.trie.parents[tree.trie.ends[1]], [-0.2])
    assert search.done  # -0.7 beats whatever follows 1 or 6
    assert search.found == Best(1, -0.7)
    assert search.taken == 1


def test_the_bound_of_a_mean_is_over_the_longest_candidate_below() -> None:
    tree = SearchTree.of(TokenTrie.of([[1], [2, 3, 4, 5]]))
    search = Search(tree, mean=True, margin=0.0)
    search.learn(ROOT, [-1.0, -3.9])
    assert not search.done  # -3.9 / 4 is better than -1
    for node in (1, 2, 3):
        assert search.take(5, 0) == [node]
        search.learn(node, [0.0])
    assert search.found == Best(1, -0.975)


def test_branches_hold_the_columns_of_their_tokens() -> None:
    tree = SearchTree.of(TokenTrie.of([[1, 2, 3], [1, 4, 5]]))
    search = Search(tree, mean=False, margin=0.0)
    search.learn(ROOT, [-1.0])
    first = search.take(4, 50)
    search.learn(first[0], [-2.0, -1.0])
    assert search.take(4, 60) == [3, 1]  # the token 4 first
    assert search.branches[3] == (50, 60)
    assert search.branches[1] == (50, 61)


def test_equal_candidates_are_one_and_what_is_no_number_is_not_told() -> None:
    tree = SearchTree.of(TokenTrie.of([[2], [1], [1]]))
    assert searched(tree, [-2.0, -1.0], False, 0.1, 1).found == Best(1, -1.0)
    assert searched(tree, [-1.0, -1.05], False, 0.1, 1).found is None  # too near
    assert searched(tree, [float("nan"), -1.0], False, 0.1, 1).found is None
    assert searched(tree, [-float("inf"), -float("inf")], False, 0.1, 1).found is None
    assert searched(SearchTree.of(TokenTrie.of([[1, 2]])), [-1.0, -1.0], False, 0.1, 1).found == Best(0, -2.0)


def test_a_large_tree_is_searched_and_has_columns_for_steps_that_are_not_full() -> None:
    n = AT_ONCE["cpu"]
    small = SearchTree.of(TokenTrie.of([[i, 1, 2] for i in range(10)]))
    large = SearchTree.of(TokenTrie.of([[i, 1, 2] for i in range(200)]))
    assert (worth_searching(small, n), worth_searching(large, n)) == (False, True)
    assert (all_columns(small), all_columns(large)) == (24, 400)
    assert search_columns(large, n) == 400 + 3 * n
