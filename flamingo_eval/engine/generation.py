"""Beams that branch off prompts: each step reads the newest token of every beam, none of them copies the prompt.

Shapes: B prompts, K beams, W vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from flamingo_eval.config.specs import DecodeSpec
from flamingo_eval.engine.beam_search import BeamState
from flamingo_eval.engine.cuda_graph import CapturedGraph
from flamingo_eval.engine.kv_slots import SlotCache
from flamingo_eval.engine.masks import chain_ancestors, chain_mask
from flamingo_eval.engine.picture_attention import Pieces
from flamingo_eval.engine.prefill import Prefill, VisualTokens
from flamingo_eval.engine.query import Query
from flamingo_eval.engine.vision import MIN_ROWS, LastPictures

ASK_EVERY = {"cuda": 4}  # steps between two checks whether all beams have ended; a check waits for the device
GRAPH_FROM_STEPS = {"cuda": 8}  # number of steps from which a graph is worth its capture; none on other devices
GRAPH_UP_TO_FLOPS = 1.5e12  # operations of a step; with more, the device computes for longer than launching takes


@torch.inference_mode()
def generate(prefill: Prefill, queries: Sequence[Query], pictures: VisualTokens, spec: DecodeSpec) -> list[str | None]:
    """The best continuation of each prompt of one shape; None if the model's logits are NaN."""
    model, K = prefill.model, spec.beams
    columns = queries[0].columns
    n_rows = max(len(queries), -(-MIN_ROWS // K))  # rows beyond the queries are empty prompts
    cache, last, visual = prefill.read_prompts(queries, pictures, n_rows, columns + queries[0].branching)
    lengths = torch.tensor([q.length for q in queries] + [0] * (n_rows - len(queries)), device=model.device)
    has_picture = [q.last_image >= 0 for q in queries] + [False] * (n_rows - len(queries))
    pieces = Pieces.of_rows(n_rows, K, has_picture, model.device)
    beams = Beams(prefill, cache, visual, pieces, lengths, columns, spec)
    stop = torch.tensor(model.tokenizer.stop_ids, device=model.device)

    state = BeamState.start(len(queries), K, spec.length_penalty, model.device)
    log_probs = prefill.log_probs(last)[:, None].expand(-1, K, -1)  # [B, K, W]
    check_every = ASK_EVERY.get(model.device.type, 1)
    for step in range(spec.max_new_tokens):
        state.step(log_probs, stop)
        if step + 1 == spec.max_new_tokens or (step % check_every == check_every - 1 and state.finished()):
            break
        tokens, parents = (F.pad(x, (0, 0, 0, n_rows - len(queries))) for x in (state.tokens[:, :, -1], state.parents))
        log_probs = beams.read(tokens, parents)[: len(queries)]
    tokens, n_tokens = state.best()
    rows = torch.cat([n_tokens[:, None], state.lost[:, None].long(), tokens], dim=1).tolist()  # one wait for the device
    return [None if has_nan else model.tokenizer.decode(row[:n]) for n, has_nan, *row in rows]


class Beams:
    """The branches of all prompts of a batch. A step reads the newest token of each."""

    def __init__(
        self,
        prefill: Prefill,
        cache: SlotCache,
        visual: LastPictures,
        pieces: Pieces | None,
        lengths: Tensor,
        columns: int,
        spec: DecodeSpec,
    ) -> None:
        """`lengths` int64[B] of the prompts, which occupy `columns` columns; a step appends one column per beam."""
        self.prefill, self.cache = prefill, cache
        self.lengths, self.columns, self.count = lengths, columns, spec.beams
        self.chains = torch.zeros(len(lengths), spec.beams, 0, dtype=torch.long, device=lengths.device)
        # not methods of this object: a reference cycle would keep the cache alive until garbage collection
        self._log_probs = partial(_log_probs, prefill, cache, visual, pieces)
        pays = self._graph_pays(spec.max_new_tokens - 1)
        self._graph = CapturedGraph(partial(_pinned, cache, self._log_probs)) if pays else None

    def read(self, tokens: Tensor, parents: Tensor) -> Tensor:
        """Log-probabilities of the next tokens, from the newest ones and their parents, both int64[B, K].

        -> float32[B, K, W]
        """
        step, taps = self.chains.shape[2], self.prefill.model.config.decoder.short_conv
        own_columns = self.columns + step * self.count + torch.arange(self.count, device=tokens.device)
        previous_chains = self.chains.gather(1, parents[:, :, None].expand(-1, -1, step))
        self.chains = torch.cat([previous_chains, own_columns.expand(len(tokens), -1)[:, :, None]], dim=2)
        positions = (self.lengths[:, None] + step).expand(-1, self.count)
        ancestors = chain_ancestors(self.lengths, self.chains, taps) if taps else None
        total = self.cache.length + self.count if self._graph is None else self.cache.columns
        mask = chain_mask(self.lengths, self.columns, self.chains, total)
        if self._graph is None:
            return self._log_probs(tokens, positions, mask, ancestors)
        return self._graph(own_columns, tokens, positions, mask, ancestors)

    def _graph_pays(self, steps: int) -> bool:
        """Whether steps are many and small enough (benchmarks/README.md, CUDA graphs). Never with several ranks."""
        from_steps = GRAPH_FROM_STEPS.get(self.lengths.device.type)
        if from_steps is None or steps < from_steps or self.prefill.flamingo.ranks > 1:
            return False
        return self.prefill.token_flops * self.count * len(self.lengths) <= GRAPH_UP_TO_FLOPS


def _log_probs(
    prefill: Prefill,
    cache: SlotCache,
    visual: LastPictures,
    pieces: Pieces | None,
    tokens: Tensor,
    positions: Tensor,
    mask: Tensor,
    ancestors: Tensor | None,
) -> Tensor:
    x = prefill.branch(tokens, positions, cache, visual, pieces, mask, ancestors)
    return prefill.log_probs(x.flatten(0, 1)).view(*tokens.shape, -1)


def _pinned(cache: SlotCache, read: Callable[..., Tensor], own_columns: Tensor, *arguments: Tensor | None) -> Tensor:
    cache.pin(own_columns)
    return read(*arguments)
