"""Beams that branch off prompts: each step reads the newest token of every beam, none of them copies the prompt.

Shapes: B prompts, K beams, W vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from flamingo_eval.engine.beam import BeamState
from flamingo_eval.engine.branches import chain_ancestors, chain_mask
from flamingo_eval.engine.encoding import MIN_ROWS
from flamingo_eval.engine.queries import Query
from flamingo_eval.engine.reading import Reader, VisualTokens
from flamingo_eval.engine.sight import Pieces
from flamingo_eval.specs import DecodeSpec

ASK_EVERY = {"cuda": 4}  # steps between looks at whether all beams have ended, which waits for the device


@torch.inference_mode()
def generate(reader: Reader, queries: Sequence[Query], pictures: VisualTokens, spec: DecodeSpec) -> list[str]:
    """The best continuation of each prompt of one shape."""
    model, K, taps = reader.model, spec.beams, reader.model.config.decoder.short_conv
    columns = queries[0].columns
    rows = max(len(queries), -(-MIN_ROWS // K))  # rows beyond the queries are empty prompts
    cache, last, visual = reader.read_prompts(queries, pictures, rows, columns + queries[0].branching)
    lengths = torch.tensor([q.length for q in queries] + [0] * (rows - len(queries)), device=model.device)
    sees = [q.last_image >= 0 for q in queries] + [False] * (rows - len(queries))
    pieces = Pieces.of_rows(rows, K, sees, model.device)
    stop = torch.tensor(model.tokenizer.stop_ids, device=model.device)

    state = BeamState.start(len(queries), K, spec.length_penalty, model.device)
    log_probs = reader.log_probs(last)[:, None].expand(-1, K, -1)  # [B, K, W]
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
        x = reader.branch(
            F.pad(state.tokens[:, :, -1], (0, 0, 0, rows - len(queries))),
            (lengths[:, None] + step).expand(-1, K),
            cache,
            visual,
            pieces,
            chain_mask(lengths, columns, chains, cache.length + K),
            chain_ancestors(lengths, chains, taps) if taps else None,
        )
        log_probs = reader.log_probs(x.flatten(0, 1)).view(rows, K, -1)[: len(queries)]
    tokens, n_tokens = state.best()
    return [model.tokenizer.decode(t[:n]) for t, n in zip(tokens.tolist(), n_tokens.tolist(), strict=True)]
