"""Benefit of CUDA graphs: a decoding step with and without a graph, the cost of capturing it, and whole answers.

A graph has one shape (prompts, columns) and fixed addresses in memory, so every batch needs a new one.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any
from unittest import mock

import torch

from benchmarks.compare import CAPTION, SPEC, Comparison
from flamingo_eval.engine import generation
from flamingo_eval.engine.beam_search import BeamState
from flamingo_eval.engine.generation import Beams
from flamingo_eval.engine.picture_attention import Pieces
from flamingo_eval.engine.query import Query
from flamingo_eval.records import Prompt

ROWS = (1, 8, 64)
STEPS = 20  # timed one after the other, as in decoding: waits only for the last
NEVER: Any = mock.patch.object(generation, "RECORDED_FROM", {})


def graphs(compare: Comparison, shots: Sequence[int]) -> None:
    """For one prompt, a few, and a full batch."""
    batches = [
        (rows, n, prompts[:rows])
        for rows in ROWS
        for n in shots
        if len(prompts := compare.prompts(n, 0, fixed=False)) >= rows
    ]
    _steps(compare, batches)
    _answers(compare, batches)


@torch.inference_mode()
def _steps(compare: Comparison, batches: Sequence[tuple[int, int, list[Prompt]]]) -> None:
    print(f"A decoding step, {SPEC.beams} beams, {compare.model.name}, {compare.how.dtype}\n")
    print("| prompts | shots | reading them, ms | a step, ms | from a graph | making the graph | repaid after |")
    print("|--:|--:|--:|--:|--:|--:|--:|")
    for rows, n, prompts in batches:
        read, step = _reading(compare, prompts)
        reading = _milliseconds(read, 1)
        plain = _milliseconds(step, STEPS)
        began = time.perf_counter()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            step()
        making = 1e3 * (time.perf_counter() - began)
        replayed = _milliseconds(graph.replay, STEPS)
        repaid = f"{making / (plain - replayed):.0f} steps" if plain > replayed else "never"
        print(f"| {rows} | {n} | {reading:.1f} | {plain:.2f} | {replayed:.2f} | {making:.0f} | {repaid} |", flush=True)
        del graph, read, step
    print(flush=True)


def _answers(compare: Comparison, batches: Sequence[tuple[int, int, list[Prompt]]]) -> None:
    print(f"Answers of {CAPTION.max_new_tokens} tokens, all pictures known, queries/s\n")
    print("| prompts | shots | operator by operator | steps from a graph | ratio | same text |")
    print("|--:|--:|--:|--:|--:|--:|")
    for rows, n, prompts in batches:
        compare.engine.pictures.tokens(m for p in prompts for m in p.media)
        texts: list[list[str | None]] = []

        def answer(prompts: list[Prompt] = prompts, texts: list[list[str | None]] = texts) -> None:
            texts.append([a.text for _, a in sorted(compare.engine.generate(iter(prompts), CAPTION))])

        with NEVER:
            plain = _milliseconds(answer, 1)
        recorded = _milliseconds(answer, 1)
        same = sum(a == b for a, b in zip(texts[0], texts[-1], strict=True))
        print(
            f"| {rows} | {n} | {1e3 * rows / plain:.3g} | {1e3 * rows / recorded:.3g} | {plain / recorded:.2f} "
            f"| {same}/{rows} |",
            flush=True,
        )
    print(flush=True)


def _reading(compare: Comparison, prompts: Sequence[Prompt]) -> tuple[Callable[[], object], Callable[[], object]]:
    """Reads a batch of prompts; repeats the first decoding step after it."""
    model, prefill, K = compare.model, compare.engine.prefill, SPEC.beams
    pictures, wrong = compare.engine.pictures.tokens(m for p in prompts for m in p.media)
    assert not wrong
    branching = K * (SPEC.max_new_tokens - 1)
    queries = [Query(i, p.id, model.encode(p), branching) for i, p in enumerate(prompts)]
    rows, columns, device = len(queries), queries[0].columns, model.device

    def read() -> object:
        return prefill.read_prompts(queries, pictures, rows, columns + branching)

    cache, last, visual = prefill.read_prompts(queries, pictures, rows, columns + branching)
    lengths = torch.tensor([q.length for q in queries], device=device)
    beams = Beams(prefill, cache, visual, Pieces.of_rows(rows, K, [True] * rows, device), lengths, columns, SPEC)
    stop = torch.tensor(model.tokenizer.stop_ids, device=device)
    state = BeamState.start(rows, K, SPEC.length_penalty, device)
    state.step(prefill.log_probs(last)[:, None].expand(-1, K, -1), stop)
    none_yet = beams.chains

    def step() -> object:
        cache._stored, beams.chains = columns, none_yet  # again the same columns
        after = replace(state)
        after.step(beams.read(state.tokens[:, :, -1], state.parents), stop)
        return after.parents

    return read, step


def _milliseconds(work: Callable[[], object], times: int, repeats: int = 3) -> float:
    """Time of one call in a sequence of `times`; the median of several, after a warm-up."""
    seconds = []
    for _ in range(repeats + 1):
        torch.cuda.synchronize()
        began = time.perf_counter()
        for _ in range(times):
            work()
        torch.cuda.synchronize()
        seconds.append((time.perf_counter() - began) / times)
    return 1e3 * statistics.median(seconds[1:])
