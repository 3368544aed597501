"""What a CUDA graph of a decoding step gains: the step as it is, the same from a graph, and what the graph costs.

A graph is of one shape (prompts, their columns, the step's own column) and of one place in memory: a batch of another
shape needs another one. `step` here is the engine's own: branches read, log-probabilities, beams chosen.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from benchmarks.compare import SPEC, Comparison
from flamingo_eval.engine.beam import BeamState
from flamingo_eval.engine.branches import chain_mask
from flamingo_eval.engine.queries import Query
from flamingo_eval.engine.sight import Pieces
from flamingo_eval.records import Prompt

ROWS = (1, 8, 64)
STEPS = 20  # timed one after the other, as in decoding: only the last is waited for


@torch.inference_mode()
def graphs(compare: Comparison, shots: Sequence[int]) -> None:
    """Milliseconds of a step, for one prompt, a few, and a full batch."""
    print(f"A decoding step, {SPEC.beams} beams, {compare.model.name}, {compare.how.dtype}\n")
    print(
        "| prompts | shots | reading them, ms | a step, ms | from a graph | making the graph | repaid after | ", end=""
    )
    print("of a query of 5 tokens, had all graphs been made |\n|--:|--:|--:|--:|--:|--:|--:|--:|")
    for rows in ROWS:
        for n in shots:
            prompts = compare.prompts(n, 0, fixed=False)[:rows]
            if len(prompts) < rows:
                continue
            read, step = _reading(compare, prompts)
            reading = _milliseconds(read, 1)
            plain = _milliseconds(step, STEPS)
            began = time.perf_counter()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                step()
            making = 1e3 * (time.perf_counter() - began)
            replayed = _milliseconds(graph.replay, STEPS)
            gain = plain - replayed
            repaid = f"{making / gain:.0f} steps" if gain > 0 else "never"
            share = 4 * gain / (reading + 4 * plain)
            print(
                f"| {rows} | {n} | {reading:.1f} | {plain:.2f} | {replayed:.2f} | {making:.0f} | {repaid} "
                f"| {100 * share:.0f} % |",
                flush=True,
            )
            del graph, read, step
    print(flush=True)


def _reading(compare: Comparison, prompts: Sequence[Prompt]) -> tuple[Callable[[], object], Callable[[], object]]:
    """Reads a batch of prompts; does its second step over and over."""
    model, reader, K = compare.model, compare.engine.reader, SPEC.beams
    pictures, wrong = compare.engine.pictures.tokens(m for p in prompts for m in p.media)
    assert not wrong
    branching = K * (SPEC.max_new_tokens - 1)
    queries = [Query(i, p.id, model.encode(p), branching) for i, p in enumerate(prompts)]
    rows, columns, device = len(queries), queries[0].columns, model.device

    def read() -> object:
        return reader.read_prompts(queries, pictures, rows, columns + branching)

    cache, last, visual = reader.read_prompts(queries, pictures, rows, columns + branching)
    lengths = torch.tensor([q.length for q in queries], device=device)
    pieces = Pieces.of_rows(rows, K, [True] * rows, device)
    stop = torch.tensor(model.tokenizer.stop_ids, device=device)
    state = BeamState.start(rows, K, SPEC.length_penalty, device)
    state.step(reader.log_probs(last)[:, None].expand(-1, K, -1), stop)
    chains = (columns + torch.arange(K, device=device)).expand(rows, -1)[:, :, None]
    positions = lengths[:, None].expand(-1, K)

    def step() -> object:
        cache._stored = columns  # again the same columns
        mask = chain_mask(lengths, columns, chains, columns + K)
        x = reader.branch(state.tokens[:, :, -1], positions, cache, visual, pieces, mask, None)
        after = replace(state)
        after.step(reader.log_probs(x.flatten(0, 1)).view(rows, K, -1), stop)
        return after.parents

    return read, step


def _milliseconds(work: Callable[[], object], times: int, repeats: int = 5) -> float:
    """Of one, when `times` follow each other; the median of some, after a first that does not count."""
    seconds = []
    for _ in range(repeats + 1):
        torch.cuda.synchronize()
        began = time.perf_counter()
        for _ in range(times):
            work()
        torch.cuda.synchronize()
        seconds.append((time.perf_counter() - began) / times)
    return 1e3 * statistics.median(seconds[1:])
