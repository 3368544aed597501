"""Candidates as a tree that branches off each prompt: all nodes in one pass, or the most promising nodes first.

Shapes: B prompts, N nodes of a tree, D width.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice

import torch
from torch import Tensor

from flamingo_eval.config.specs import RankSpec
from flamingo_eval.engine.batching import Limits, batches
from flamingo_eval.engine.best_first import AT_ONCE, Search, SearchTree, all_columns, search_columns, worth_searching
from flamingo_eval.engine.kv_slots import SlotCache
from flamingo_eval.engine.masks import path_ancestors, path_mask, trie_ancestors, trie_mask
from flamingo_eval.engine.picture_attention import Pieces
from flamingo_eval.engine.prefill import Prefill, VisualTokens
from flamingo_eval.engine.query import Query
from flamingo_eval.engine.trie import ROOT, TokenTrie
from flamingo_eval.engine.vision import LastPictures
from flamingo_eval.records import SCORE_DECIMALS, Best, best_of

# Candidates closer than this to the best one leave a search undecided (best_first.py). The scores of search and full
# ranking were measured to differ by 5e-6, 0.01 and 0.03.
MARGINS = {torch.float32: 1e-3, torch.float16: 0.1, torch.bfloat16: 0.25}
COUNTS = ("inner_nodes", "inner_nodes_read", "searched", "searched_in_vain")


class Ranker:
    """Ranks the candidates of prompts, and counts the nodes that it reads."""

    def __init__(self, prefill: Prefill) -> None:
        self.prefill = prefill
        self.counts: Counter[str] = Counter(dict.fromkeys(COUNTS, 0))
        self.at_once = AT_ONCE.get(prefill.model.device.type, 16)

    def columns_for_search(self, tree: SearchTree) -> int:
        """Number of columns that a search for the best candidate may need."""
        return search_columns(tree, self.at_once) if worth_searching(tree, self.at_once) else all_columns(tree)

    @torch.inference_mode()
    def score(self, queries: Sequence[Query], pictures: VisualTokens, spec: RankSpec) -> list[list[float]]:
        """Scores of all candidates of each prompt of one shape."""
        taps = self.prefill.model.config.decoder.short_conv
        tries = [q.tree.trie for q in queries if q.tree is not None]
        columns, N = queries[0].columns, queries[0].nodes
        cache, last, visual = self.prefill.read_prompts(queries, pictures, len(queries), columns + N)
        x = last.new_zeros(len(queries), 0, last.shape[1])
        if N:
            lengths = torch.tensor([q.length for q in queries], device=last.device)
            x = self._read_nodes(
                queries,
                [t.inner for t in tries],
                N,
                cache,
                visual,
                trie_mask(lengths, columns, tries, N),
                trie_ancestors([q.length for q in queries], columns, tries, N, taps).to(last.device) if taps else None,
            )
        scores = []
        for trie, root, inner in zip(tries, last, x, strict=True):
            sums = trie.sums(self._node_log_probs(trie, torch.cat([root[None], inner[: len(trie.inner)]])))
            if spec.normalise == "mean":
                sums = sums / torch.tensor(trie.lengths, device=sums.device)
            scores.append(sums.tolist())
        inner = sum(len(t.inner) for t in tries)
        self.counts["inner_nodes"] += inner
        self.counts["inner_nodes_read"] += inner
        return scores

    def best(self, queries: Sequence[Query], pictures: VisualTokens, spec: RankSpec, limits: Limits) -> list[Best]:
        """The best candidate of each prompt. If the search cannot decide, all nodes are read, as in `score`.

        Its score is NaN if any candidate's score is.
        """
        answers: list[Best | None] = [None] * len(queries)
        by_search = [i for i, q in enumerate(queries) if q.tree and worth_searching(q.tree, self.at_once)]
        if by_search:
            results = self._search([queries[i] for i in by_search], pictures, spec)
            for i, best in zip(by_search, results, strict=True):
                answers[i] = best
        self.counts["searched"] += len(by_search)
        self.counts["searched_in_vain"] += sum(answers[i] is None for i in by_search)
        undecided = [replace(q, index=i, branching=q.nodes) for i, q in enumerate(queries) if answers[i] is None]
        for batch in batches(undecided, replace(limits, window=len(undecided) + 1)):
            for query, scores in zip(batch, self.score(batch, pictures, spec), strict=True):
                first = best_of([round(s, SCORE_DECIMALS) for s in scores])
                has_nan = any(math.isnan(s) for s in scores)
                answers[query.index] = Best(first, math.nan if has_nan else scores[first])
        return [best for best in answers if best is not None]

    @torch.inference_mode()
    def _search(self, queries: Sequence[Query], pictures: VisualTokens, spec: RankSpec) -> list[Best | None]:
        """Best-first search in the trees of some prompts; None if it ran out of columns or cannot decide."""
        model, N = self.prefill.model, self.at_once
        taps = model.config.decoder.short_conv
        columns, branching = queries[0].columns, queries[0].branching
        cache, last, visual = self.prefill.read_prompts(queries, pictures, len(queries), columns + branching)
        lengths = torch.tensor([q.length for q in queries], device=model.device)
        searches = [Search(q.tree, spec.normalise == "mean", MARGINS[model.dtype]) for q in queries if q.tree]
        self._learn(searches, [[ROOT]] * len(queries), last[:, None])
        rows = list(range(len(queries)))  # of the cache: the queries whose search is still running
        for first in range(columns, columns + branching, N):
            running = [i for i in rows if not searches[i].done]
            if not running:
                break
            if len(running) <= len(rows) // 2:
                kept_rows = torch.tensor([rows.index(i) for i in running], device=model.device)
                cache.keep(kept_rows)
                visual.keep(kept_rows)
                rows = running
            batch = [queries[i] for i in rows]
            nodes = [searches[i].take(N, first) for i in rows]
            paths = [[searches[i].branches[n] for n in ns] for i, ns in zip(rows, nodes, strict=True)]
            x = self._read_nodes(
                batch,
                nodes,
                N,
                cache,
                visual,
                path_mask(lengths[rows], columns, paths, N, cache.length + N),
                path_ancestors([q.length for q in batch], paths, N, taps).to(model.device) if taps else None,
            )
            self._learn([searches[i] for i in rows], nodes, x)
        decided = [search for search in searches if search.found is not None]
        self.counts["inner_nodes_read"] += sum(search.taken for search in searches)
        self.counts["inner_nodes"] += sum(len(search.tree.trie.inner) for search in decided)
        return [search.found for search in searches]

    def _learn(self, searches: Sequence[Search], nodes: Sequence[Sequence[int]], x: Tensor) -> None:
        """Give the searches the scores of the children of the nodes just read. x: states of the nodes, [B, N, D]"""
        reads = [(s, n, row * x.shape[1] + i) for row, s in enumerate(searches) for i, n in enumerate(nodes[row])]
        children = [search.tree.children[node] for search, node, _ in reads]
        states = x.flatten(0, 1)[torch.tensor([state for _, _, state in reads], device=x.device)]
        rows = torch.tensor([i for i, nodes_below in enumerate(children) for _ in nodes_below])
        tokens = [
            s.tree.trie.tokens[c] for (s, _, _), nodes_below in zip(reads, children, strict=True) for c in nodes_below
        ]
        log_probs = iter(self.prefill.log_probs_at(states, rows, torch.tensor(tokens)).tolist())
        for (search, node, _), nodes_below in zip(reads, children, strict=True):
            search.learn(node, list(islice(log_probs, len(nodes_below))))

    def _read_nodes(
        self,
        queries: Sequence[Query],
        nodes: Sequence[Sequence[int]],
        N: int,
        cache: SlotCache,
        visual: LastPictures,
        mask: Tensor,
        ancestors: Tensor | None,
    ) -> Tensor:
        """Read some nodes of each prompt's tree, padded to N. -> states of the nodes, [B, N, D]"""
        device = self.prefill.model.device
        tries = [q.tree.trie for q in queries if q.tree is not None]
        tokens = [[t.tokens[n] for n in ns] + [0] * (N - len(ns)) for t, ns in zip(tries, nodes, strict=True)]
        depths = [[t.depths[n] for n in ns] + [0] * (N - len(ns)) for t, ns in zip(tries, nodes, strict=True)]
        lengths = torch.tensor([q.length for q in queries], device=device)
        pieces = Pieces.of_rows(len(queries), N, [q.last_image >= 0 for q in queries], device)
        positions = lengths[:, None] + torch.tensor(depths, device=device)
        return self.prefill.branch(
            torch.tensor(tokens, device=device), positions, cache, visual, pieces, mask, ancestors
        )

    def _node_log_probs(self, trie: TokenTrie, states: Tensor) -> Tensor:
        """Log-probability of every node at its parent. States of the prompt's end and inner nodes -> float32[nodes]"""
        row_of = {node: i + 1 for i, node in enumerate(trie.inner)}
        rows = torch.tensor([row_of.get(p, 0) for p in trie.parents])
        order = rows.argsort(stable=True)
        by_row = self.prefill.log_probs_at(states, rows[order], torch.tensor(trie.tokens)[order])
        out = torch.empty_like(by_row)
        out[order.to(states.device)] = by_row
        return out
