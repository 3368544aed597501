"""Engine: prompts in, answers out, in batches. The same answers as models/reference.py gives one prompt at a time.

Pictures are encoded once (encoding.py), each prompt is read once into a cache of fixed columns (slots.py), and beams or
candidates branch off it (branches.py) without copying anything. Prompts share a batch with others of their own padded
length (plan.py), and no matrix product has fewer rows than MIN_ROWS: with both, float32 results on a CPU do not depend
on the batch, bit by bit (seen with PyTorch's MKL; on CUDA they agree to rounding).

Shapes: B prompts, L columns of a prompt, K beams, N nodes of a tree, W vocabulary, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from types import TracebackType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from flamingo_eval.engine.beam import BeamState
from flamingo_eval.engine.branches import (
    chain_ancestors,
    chain_mask,
    path_ancestors,
    path_mask,
    trie_ancestors,
    trie_mask,
)
from flamingo_eval.engine.encoding import MIN_ROWS, LastPictures, PictureEncoder, Projections
from flamingo_eval.engine.heads import Heads, with_heads
from flamingo_eval.engine.packed import packed
from flamingo_eval.engine.pictures import PictureLoader
from flamingo_eval.engine.plan import Limits, batches
from flamingo_eval.engine.queries import Candidates, Query, check_length
from flamingo_eval.engine.search import AT_ONCE, Search, SearchTree, all_columns, search_columns, worth_searching
from flamingo_eval.engine.sight import Pieces, read
from flamingo_eval.engine.slots import SlotCache
from flamingo_eval.engine.trie import ROOT, TokenTrie
from flamingo_eval.engine.vision_cache import VisionCache
from flamingo_eval.errors import FlamingoEvalError, MediaError, PromptError
from flamingo_eval.models.config import DecoderConfig
from flamingo_eval.models.model import Model
from flamingo_eval.models.xattn import GatedXattn, VisualKV
from flamingo_eval.records import SCORE_DECIMALS, Answer, Best, Prompt, best_of
from flamingo_eval.specs import DecodeSpec, RankSpec

HEAD_ROWS = 64  # positions whose logits exist at one time while candidates are scored
AUTO_ROWS = {"cpu": 16, "cuda": 64}
ASK_EVERY = {"cuda": 4}  # steps between looks at whether all beams have ended, which waits for the device
WINDOW = 16  # batches' worth of prompts to choose from
READ_TOKENS = {"cpu": 1024, "cuda": 16_384}  # read at one time: on a CPU more only leaves its caches
CACHE_BYTES_ON_CPU = 768 * 2**20
SHARE_OF_FREE_CUDA = 0.4
# How near to the best candidate a search does not tell (search.py). Scores of the two ways were seen to differ by
# 5e-6, 0.01 and 0.03.
MARGINS = {torch.float32: 1e-3, torch.float16: 0.1, torch.bfloat16: 0.25}
COUNTS = (
    "batches", "prompts", "prompt_tokens", "heads", "inner_nodes", "inner_nodes_read", "searched", "searched_in_vain",
    "failed", "memory_halvings",
)  # fmt: skip


class Engine:
    """Generates and scores with a model. Close it, or use it in a `with` block, to end its worker processes."""

    def __init__(
        self,
        model: Model,
        batch_size: int | None = None,
        token_budget: int | None = None,
        cache: VisionCache | None = None,
        workers: int = 0,
    ) -> None:
        """`batch_size` and `token_budget` (columns of a batch) None: as memory allows; `cache` None: memory only."""
        self.model = model
        self.cache = cache or VisionCache(namespace=model.name)
        self.loader = PictureLoader(model.config.preprocess, workers)
        self.flamingo = packed(model.flamingo)
        self.pictures = PictureEncoder(self.flamingo, self.cache, self.loader)
        rows = batch_size or AUTO_ROWS.get(model.device.type, 16)
        self.limits = Limits(rows, token_budget or affordable_columns(model), WINDOW * rows)
        self._counts = dict.fromkeys(COUNTS, 0)
        self._heads = Heads(self.limits.budget // 4)

    def close(self) -> None:
        """End the worker processes."""
        self.loader.close()

    def __enter__(self) -> Engine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def stats(self) -> Mapping[str, Any]:
        """What was done since it was made: counts, and the hit rate of the vision cache."""
        return {
            **self._counts,
            "batch_size": self.limits.rows,
            "pictures_encoded": self.pictures.encoded,
            "vision_cache": self.cache.stats,
        }

    @property
    def _at_once(self) -> int:
        return AT_ONCE.get(self.model.device.type, 16)

    # -------------------------------------------------------------------------------------------- prompts to answers

    def generate(self, prompts: Iterable[Prompt], spec: DecodeSpec) -> Iterator[tuple[int, Answer]]:
        """The best continuation of each prompt, as (index, Answer), batch by batch in the order of finishing.

        A prompt that cannot be answered (too long, a picture that cannot be opened) gives an Answer with its error.
        """
        branching = spec.beams * (spec.max_new_tokens - 1)

        def prepared(index: int, prompt: Prompt) -> Query:
            encoded = self.model.encode(prompt)
            check_length(self.model, prompt, len(encoded.ids) + spec.max_new_tokens)
            return Query(index, prompt.id, encoded, branching, common_head=prompt.common_head)

        def answered(queries: list[Query]) -> list[Answer]:
            texts = self._generate(queries, spec)
            return [Answer(q.length, text=text) for q, text in zip(queries, texts, strict=True)]

        return self._answers(((i, p, prepared) for i, p in enumerate(prompts)), answered)

    def score(
        self, prompts: Iterable[Prompt], candidates: Iterable[Sequence[str]], spec: RankSpec
    ) -> Iterator[tuple[int, Answer]]:
        """Log-likelihood of each candidate as continuation of its prompt, summed or averaged over its tokens.

        As `generate`; the permutations of `spec` are for whoever makes the prompts.
        """

        def answered(queries: list[Query]) -> list[Answer]:
            rows = self._score(queries, spec)
            return [Answer(q.length, scores=tuple(row)) for q, row in zip(queries, rows, strict=True)]

        return self._answers(self._ranked(prompts, candidates, spec, all_columns), answered)

    def best(
        self, prompts: Iterable[Prompt], candidates: Iterable[Sequence[str]], spec: RankSpec
    ) -> Iterator[tuple[int, Answer]]:
        """The best candidate of each prompt and its score, by best-first search in the tree (search.py). As `score`.

        It is the one that `score` would put first (of equal scores the first, where six decimals count), and its score
        is the same to rounding.
        """

        def answered(queries: list[Query]) -> list[Answer]:
            return [Answer(q.length, best=best) for q, best in zip(queries, self._best(queries, spec), strict=True)]

        def columns_of(tree: SearchTree) -> int:
            searched = worth_searching(tree, self._at_once)
            return search_columns(tree, self._at_once) if searched else all_columns(tree)

        return self._answers(self._ranked(prompts, candidates, spec, columns_of), answered)

    def _ranked(
        self,
        prompts: Iterable[Prompt],
        candidates: Iterable[Sequence[str]],
        spec: RankSpec,
        columns_of: Callable[[SearchTree], int],
    ) -> Iterator[tuple[int, Prompt, Callable[[int, Prompt], Query]]]:
        """Prompts with their candidates; `columns_of`: the columns that a tree of them will need."""
        known = Candidates(self.model, spec)

        def prepared(index: int, prompt: Prompt, names: Sequence[str]) -> Query:
            encoded = self.model.encode(prompt)
            try:
                tree = known.tree(names)
            except PromptError as error:
                raise PromptError(f"{prompt.id or 'prompt'}: {error}") from error
            check_length(self.model, prompt, len(encoded.ids) + max(tree.trie.lengths))
            return Query(index, prompt.id, encoded, columns_of(tree), tree, common_head=prompt.common_head)

        names_of = iter(candidates)
        for i, prompt in enumerate(prompts):
            names = next(names_of, None)
            if names is None:
                raise PromptError(f"more prompts than lists of candidates ({i}).")
            yield i, prompt, lambda index, prompt, names=names: prepared(index, prompt, names)  # type: ignore[misc]

    def _answers(
        self,
        asked: Iterable[tuple[int, Prompt, Callable[[int, Prompt], Query]]],
        answered: Callable[[list[Query]], list[Answer]],
    ) -> Iterator[tuple[int, Answer]]:
        """Prepare prompts as they come, answer them batch by batch; errors are answers too."""
        failed: list[tuple[int, Answer]] = []

        def prepare() -> Iterator[Query]:
            for index, prompt, prepared in asked:
                try:
                    query = prepared(index, prompt)
                except (PromptError, MediaError) as error:
                    failed.append((index, Answer(0, error=error)))
                    continue
                for media in query.encoded.media:
                    self.pictures.ahead(media)
                yield query

        for batch in batches(with_heads(prepare()), self.limits):
            yield from self._settled(failed)
            yield from self._answered(batch, answered, failed)
            yield from self._settled(failed)
        yield from self._settled(failed)

    def _settled(self, failed: list[tuple[int, Answer]]) -> Iterator[tuple[int, Answer]]:
        self._counts["failed"] += len(failed)
        yield from failed
        failed.clear()

    def _answered(
        self,
        batch: list[Query],
        answered: Callable[[list[Query]], list[Answer]],
        failed: list[tuple[int, Answer]],
    ) -> Iterator[tuple[int, Answer]]:
        """One batch; in halves where the device's memory does not suffice."""
        batch = self._seen(batch, failed)
        if not batch:
            return
        try:
            answers = answered(batch)
        except torch.OutOfMemoryError:
            answers = None  # leaving the block first frees what the failed attempt still holds
        if answers is not None:
            self._counts["batches"] += 1
            self._counts["prompts"] += len(batch)
            self._counts["prompt_tokens"] += sum(q.length for q in batch)
            yield from zip((q.index for q in batch), answers, strict=True)
            return
        self._heads.clear()
        if self.model.device.type == "cuda":
            torch.cuda.empty_cache()
        if len(batch) == 1:
            error = PromptError(f"{batch[0].id or 'prompt'}: {batch[0].length} tokens do not fit into the memory.")
            failed.append((batch[0].index, Answer(batch[0].length, error=error)))
            return
        self._counts["memory_halvings"] += 1
        half = (len(batch) + 1) // 2
        self.limits.rows = min(self.limits.rows, half)
        self.limits.budget = min(self.limits.budget, sum(q.cost for q in batch[:half]))
        yield from self._answered(batch[:half], answered, failed)
        yield from self._answered(batch[half:], answered, failed)

    def _seen(self, batch: list[Query], failed: list[tuple[int, Answer]]) -> list[Query]:
        """Make the batch's visual tokens ready; queries with a picture that cannot be opened are put aside."""
        self._tokens, wrong = self.pictures.tokens(m for q in batch for m in q.encoded.media)
        good = []
        for query in batch:
            error: FlamingoEvalError | None = next((wrong[m] for m in query.encoded.media if m in wrong), None)
            if error is None:
                good.append(query)
            else:
                failed.append((query.index, Answer(query.length, error=error)))
        return good

    # ------------------------------------------------------------------------------------------------ through the model

    @torch.inference_mode()
    def _generate(self, queries: list[Query], spec: DecodeSpec) -> list[str]:
        model, K, taps = self.model, spec.beams, self.model.config.decoder.short_conv
        columns = queries[0].columns
        rows = max(len(queries), -(-MIN_ROWS // K))  # rows beyond the queries are empty prompts
        cache, last, visual = self._read_prompts(queries, rows, columns + queries[0].branching)
        lengths = torch.tensor([q.length for q in queries] + [0] * (rows - len(queries)), device=model.device)
        sees = [q.last_image >= 0 for q in queries] + [False] * (rows - len(queries))
        pieces = Pieces.of_rows(rows, K, sees, model.device)
        stop = torch.tensor(model.tokenizer.stop_ids, device=model.device)

        state = BeamState.start(len(queries), K, spec.length_penalty, model.device)
        log_probs = self._log_probs(last)[:, None].expand(-1, K, -1)  # [B, K, W]
        chains = torch.zeros(rows, K, 0, dtype=torch.long, device=model.device)
        asks = ASK_EVERY.get(model.device.type, 1)
        for step in range(spec.max_new_tokens):
            state.step(log_probs, stop)
            if step + 1 == spec.max_new_tokens or (step % asks == asks - 1 and state.finished()):
                break
            own = columns + step * K + torch.arange(K, device=model.device)
            parents = F.pad(state.parents, (0, 0, 0, rows - len(queries)))
            before = chains.gather(1, parents[:, :, None].expand(-1, -1, step))
            chains = torch.cat([before, own.expand(rows, -1)[:, :, None]], dim=2)
            x = read(
                self.flamingo,
                F.pad(state.tokens[:, :, -1], (0, 0, 0, rows - len(queries))),
                (lengths[:, None] + step).expand(-1, K),
                cache,
                visual,
                pieces,
                chain_mask(lengths, columns, chains, cache.length + K),
                chain_ancestors(lengths, chains, taps) if taps else None,
            )
            log_probs = self._log_probs(x.flatten(0, 1)).view(rows, K, -1)[: len(queries)]
        tokens, n_tokens = state.best()
        return [model.tokenizer.decode(t[:n]) for t, n in zip(tokens.tolist(), n_tokens.tolist(), strict=True)]

    @torch.inference_mode()
    def _score(self, queries: list[Query], spec: RankSpec) -> list[list[float]]:
        model, taps = self.model, self.model.config.decoder.short_conv
        tries = [q.tree.trie for q in queries if q.tree is not None]
        columns, N = queries[0].columns, queries[0].nodes
        cache, last, visual = self._read_prompts(queries, len(queries), columns + N)
        x = last.new_zeros(len(queries), 0, last.shape[1])
        if N:
            lengths = torch.tensor([q.length for q in queries], device=model.device)
            tokens = [[t.tokens[n] for n in t.inner] + [0] * (N - len(t.inner)) for t in tries]
            depths = [[t.depths[n] for n in t.inner] + [0] * (N - len(t.inner)) for t in tries]
            x = read(
                self.flamingo,
                torch.tensor(tokens, device=model.device),
                lengths[:, None] + torch.tensor(depths, device=model.device),
                cache,
                visual,
                Pieces.of_rows(len(queries), N, [q.last_image >= 0 for q in queries], model.device),
                trie_mask(lengths, columns, tries, N),
                trie_ancestors([q.length for q in queries], columns, tries, N, taps).to(model.device) if taps else None,
            )
        scores = []
        for trie, root, inner in zip(tries, last, x, strict=True):
            sums = trie.sums(self._node_log_probs(trie, torch.cat([root[None], inner[: len(trie.inner)]])))
            if spec.normalise == "mean":
                sums = sums / torch.tensor(trie.lengths, device=sums.device)
            scores.append(sums.tolist())
        inner = sum(len(t.inner) for t in tries)
        self._counts["inner_nodes"] += inner
        self._counts["inner_nodes_read"] += inner
        return scores

    def _best(self, queries: list[Query], spec: RankSpec) -> list[Best]:
        """The best candidate of each prompt. Where the search does not tell, all nodes are read, as by `_score`."""
        found: list[Best | None] = [None] * len(queries)
        searched = [i for i, q in enumerate(queries) if q.tree and worth_searching(q.tree, self._at_once)]
        if searched:
            told = self._search([queries[i] for i in searched], spec)
            for i, best in zip(searched, told, strict=True):
                found[i] = best
        self._counts["searched"] += len(searched)
        self._counts["searched_in_vain"] += sum(found[i] is None for i in searched)
        left = [replace(q, index=i, branching=q.nodes) for i, q in enumerate(queries) if found[i] is None]
        for some in batches(left, replace(self.limits, window=len(left) + 1)):
            for query, scores in zip(some, self._score(some, spec), strict=True):
                first = best_of([round(s, SCORE_DECIMALS) for s in scores])
                found[query.index] = Best(first, scores[first])
        return [best for best in found if best is not None]

    @torch.inference_mode()
    def _search(self, queries: list[Query], spec: RankSpec) -> list[Best | None]:
        """Best-first search in the trees of some prompts; None where it ran out of columns or cannot tell."""
        model, taps, N = self.model, self.model.config.decoder.short_conv, self._at_once
        columns, branching = queries[0].columns, queries[0].branching
        cache, last, visual = self._read_prompts(queries, len(queries), columns + branching)
        lengths = torch.tensor([q.length for q in queries], device=model.device)
        searches = [Search(q.tree, spec.normalise == "mean", MARGINS[model.dtype]) for q in queries if q.tree]
        self._learn(searches, [[ROOT]] * len(queries), last[:, None])
        rows = list(range(len(queries)))  # of the cache: the queries that are searched for still
        for first in range(columns, columns + branching, N):
            left = [i for i in rows if not searches[i].done]
            if not left:
                break
            if len(left) <= len(rows) // 2:
                places = torch.tensor([rows.index(i) for i in left], device=model.device)
                cache.keep(places)
                visual.keep(places)
                rows = left
            some = [queries[i] for i in rows]
            nodes = [searches[i].take(N, first) for i in rows]
            paths = [[searches[i].branches[n] for n in ns] for i, ns in zip(rows, nodes, strict=True)]
            tries = [searches[i].tree.trie for i in rows]
            tokens = [[t.tokens[n] for n in ns] + [0] * (N - len(ns)) for t, ns in zip(tries, nodes, strict=True)]
            depths = [[t.depths[n] for n in ns] + [0] * (N - len(ns)) for t, ns in zip(tries, nodes, strict=True)]
            x = read(
                self.flamingo,
                torch.tensor(tokens, device=model.device),
                lengths[rows, None] + torch.tensor(depths, device=model.device),
                cache,
                visual,
                Pieces.of_rows(len(rows), N, [q.last_image >= 0 for q in some], model.device),
                path_mask(lengths[rows], columns, paths, N, cache.length + N),
                path_ancestors([q.length for q in some], paths, N, taps).to(model.device) if taps else None,
            )
            self._learn([searches[i] for i in rows], nodes, x)
        told = [search for search in searches if search.found is not None]
        self._counts["inner_nodes_read"] += sum(search.taken for search in searches)
        self._counts["inner_nodes"] += sum(len(search.tree.trie.inner) for search in told)
        return [search.found for search in searches]

    def _learn(self, searches: Sequence[Search], nodes: Sequence[Sequence[int]], x: Tensor) -> None:
        """Tell searches what the children of the nodes they took scored. x: the nodes' states, [B, N, D]"""
        asked = [(s, n, row * x.shape[1] + i) for row, s in enumerate(searches) for i, n in enumerate(nodes[row])]
        children = [search.tree.children[node] for search, node, _ in asked]
        states = x.flatten(0, 1)[torch.tensor([place for _, _, place in asked], device=x.device)]
        rows = torch.tensor([i for i, some in enumerate(children) for _ in some])
        tokens = [s.tree.trie.tokens[c] for (s, _, _), some in zip(asked, children, strict=True) for c in some]
        log_probs = iter(self._at(states, rows, torch.tensor(tokens)).tolist())
        for (search, node, _), some in zip(asked, children, strict=True):
            search.learn(node, list(islice(log_probs, len(some))))

    def _read_prompts(self, queries: list[Query], rows: int, total: int) -> tuple[SlotCache, Tensor, LastPictures]:
        """Read prompts of one padded length into a cache of `rows` rows and `total` columns.

        Also the state of each prompt's last token, [B, D], and the keys and values of its last picture (for each row).
        """
        model, columns, head = self.model, queries[0].columns, queries[0].head
        cache = SlotCache(model.config.decoder, rows, total, model.device, model.dtype)
        at_once = max(1, READ_TOKENS.get(model.device.type, 1024) // (columns - head))
        shared = self._head(queries[0]) if head else None
        last, kept = [], []
        for first in range(0, len(queries), at_once):
            some = queries[first : first + at_once]
            if shared is None:
                cache.fill(slice(first, first + len(some)))
            else:
                cache.fill_head(shared, slice(first, first + len(some)))
            x, projections = self._read_columns(some, slice(head, columns), cache)
            ends = torch.tensor([q.length - 1 - head for q in some], device=model.device)[:, None, None]
            last.append(x.gather(1, ends.expand(-1, -1, x.shape[2]))[:, 0])
            kept.append((len(some), projections))
        cache.branch()
        return cache, torch.cat(last), self._last_pictures(kept, rows)

    def _head(self, query: Query) -> SlotCache:
        """Keys and values of a head that several prompts share, read on first use."""
        found = self._heads.get(query.head_key)
        if found is None:
            found = SlotCache(self.model.config.decoder, 1, query.head, self.model.device, self.model.dtype)
            self._read_columns([query], slice(0, query.head), found)
            self._heads.put(query.head_key, found)
            self._counts["heads"] += 1
        return found

    def _read_columns(
        self, queries: Sequence[Query], columns: slice, cache: SlotCache
    ) -> tuple[Tensor, Projections | None]:
        """Read some columns of prompts into the rows being written. -> [B, columns, D], and the pictures they see"""
        device, n = self.model.device, columns.stop - columns.start
        ids = [q.encoded.ids[columns] for q in queries]
        sees = [q.encoded.image_of_token[columns] for q in queries]
        pairs = [(q.encoded.media, row) for q, row in zip(queries, sees, strict=True)]
        seen = list(dict.fromkeys(media[i - 1] for media, row in pairs for i in row if i))
        place = {media: i for i, media in enumerate(seen)}
        looks = [[place[media[i - 1]] if i else -1 for i in row] + [-1] * (n - len(row)) for media, row in pairs]
        projections = None
        if seen:
            tokens = torch.stack([self._tokens[media] for media in seen]).to(device)
            projections = Projections(tokens, [look[len(row) - 1] for look, row in zip(looks, ids, strict=True)])
        ends = torch.tensor([q.length - 1 for q in queries], device=device)[:, None]
        x = read(
            self.flamingo,
            torch.tensor([row + (0,) * (n - len(row)) for row in ids], device=device),
            torch.arange(columns.start, columns.stop, device=device).minimum(ends),
            cache,
            projections or _blind,
            Pieces.of(looks, device),
        )
        return x, projections

    def _last_pictures(self, kept: list[tuple[int, Projections | None]], rows: int) -> LastPictures:
        """Keys and values of every row's last picture, [rows, H, L, d]; zeros where there is none."""
        example = next((p.kept for _, p in kept if p is not None), None)
        if example is None:
            return LastPictures({})
        filled = sum(n for n, _ in kept)
        blocks = self.model.config.xattn_blocks
        joined: dict[int, VisualKV] = {}
        for i, block in enumerate(blocks):
            keys, values = (
                torch.cat(
                    [
                        p.kept[i][part] if p else example[i][part].new_zeros(n, *example[i][part].shape[1:])
                        for n, p in kept
                    ]
                    + [example[i][part].new_zeros(rows - filled, *example[i][part].shape[1:])]
                )
                for part in (0, 1)
            )
            joined[block] = keys, values
        return LastPictures(joined)

    def _log_probs(self, x: Tensor) -> Tensor:
        """States of some tokens -> log-probabilities of the next. [n, D] -> float32[n, W]"""
        n = len(x)
        x = F.pad(x, (0, 0, 0, max(MIN_ROWS - n, 0)))
        return self.flamingo.decoder.logits(x).float().log_softmax(dim=-1)[:n]

    def _node_log_probs(self, trie: TokenTrie, states: Tensor) -> Tensor:
        """Log-probability of every node at its parent. States of the prompt's end and inner nodes -> float32[nodes]"""
        place = {node: i + 1 for i, node in enumerate(trie.inner)}
        rows = torch.tensor([place.get(p, 0) for p in trie.parents])
        order = rows.argsort(stable=True)
        by_row = self._at(states, rows[order], torch.tensor(trie.tokens)[order])
        out = torch.empty_like(by_row)
        out[order.to(states.device)] = by_row
        return out

    def _at(self, states: Tensor, rows: Tensor, tokens: Tensor) -> Tensor:
        """Log-probability of some tokens, each at one of the states. [S, D], ascending int64[n], int64[n] -> float32[n]

        Logits exist for HEAD_ROWS states at one time.
        """
        bounds = torch.searchsorted(rows, torch.arange(0, len(states) + HEAD_ROWS, HEAD_ROWS)).tolist()
        rows, tokens = rows.to(states.device), tokens.to(states.device)
        found = []
        for i, first in enumerate(range(0, len(states), HEAD_ROWS)):
            some = slice(bounds[i], bounds[i + 1])
            log_probs = self._log_probs(states[first : first + HEAD_ROWS])
            found.append(log_probs[rows[some] - first, tokens[some]])
        return torch.cat(found)


def _blind(block: int, layer: GatedXattn) -> None:
    """No pictures at all."""
    del block, layer


def affordable_columns(model: Model) -> int:
    """How many tokens of keys and values a batch may hold on the model's device."""
    if model.device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(model.device)
        room = int(free * SHARE_OF_FREE_CUDA)
    else:
        room = CACHE_BYTES_ON_CPU
    return max(room // column_bytes(model.config.decoder, model.dtype), 1)


def column_bytes(config: DecoderConfig, dtype: torch.dtype) -> int:
    """What the cache holds of one token."""
    width = 2 * config.kv_heads * config.head_dim + (config.width if config.short_conv else 0)
    return config.layers * width * dtype.itemsize
