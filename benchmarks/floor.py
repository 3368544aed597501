"""Comparison with the hardware: operations per second of a plain matrix product, and bytes of a plain read.

All pictures are in the cache, so only reading prompts and decoding are measured.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial

import torch

from benchmarks.compare import SPEC, Comparison
from flamingo_eval.config.specs import DecodeSpec
from flamingo_eval.engine.engine import column_bytes
from flamingo_eval.models.flops import ModelFlops
from flamingo_eval.runs.estimate import matrix_rate

READ_ONLY = DecodeSpec(beams=3, max_new_tokens=1)


def floor(compare: Comparison, shots: Sequence[int]) -> None:
    """Shares of both rates, and the growth of a query's time with its tokens."""
    model, repeats, queries = compare.model, compare.how.repeats, compare.how.queries
    large = model.device.type == "cuda"
    rate = matrix_rate(model.device, model.dtype, size=8192 if large else 1024, repeats=20)
    memory = _memory_rate(model.device, size=1 << (33 if large else 28))
    flops = ModelFlops(model.config)
    decoder = sum(p.numel() for part in (flops.flamingo.decoder, flops.flamingo.xattn) for p in part.parameters())
    held = decoder * model.dtype.itemsize
    print(f"Share of the floor, {model.name}, {model.device}, {compare.how.dtype}")
    print(f"A matrix product reaches {rate / 1e9:.0f} GFLOP/s, a read {memory / 1e9:.1f} GB/s.\n")
    print(
        "| shots | tokens | reading, ms a query | share of the matrix rate | decoding, ms a step of all queries |",
        end="",
    )
    print(" share of the matrix rate | share of the memory rate |\n|---|---|---|---|---|---|---|")
    times, lengths = [], []
    for n in shots:
        read, whole, batches = [], [], 0
        for turn in range(repeats):
            prompts = compare.prompts(n, turn, fixed=False)
            compare.engine.pictures.tokens(m for p in prompts for m in p.media)
            read.append(_seconds(partial(compare.generate, prompts, READ_ONLY)))
            before = compare.engine.stats["batches"]
            whole.append(_seconds(partial(compare.generate, prompts, SPEC)))
            batches = compare.engine.stats["batches"] - before
        length = model.count_tokens(prompts[0])
        reading = statistics.median(read)
        step = max(statistics.median(whole) - reading, 1e-9) / (SPEC.max_new_tokens - 1)
        done = queries * (flops.reading(length) + (n + 1) * flops.visual_keys)
        one = SPEC.beams * queries * flops.next_token(length)
        column = column_bytes(model.config.decoder, model.dtype)
        read_bytes = batches * held + queries * length * column  # weights, and the prompts' keys and values
        print(
            f"| {n} | {length} | {1000 * reading / queries:.1f} | {100 * done / reading / rate:.0f} % | "
            f"{1000 * step:.1f} | {100 * one / step / rate:.0f} % | {100 * read_bytes / step / memory:.0f} % |",
            flush=True,
        )
        times.append(statistics.median(whole) / queries)
        lengths.append(length)
    print(
        f"\nFrom {shots[0]} to {shots[-1]} shots, all pictures known: {lengths[-1] / lengths[0]:.1f} times the tokens, "
        f"{times[-1] / times[0]:.1f} times the time a query.\n",
        flush=True,
    )


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _memory_rate(device: torch.device, size: int = 1 << 28, repeats: int = 9) -> float:
    """Bytes per second when reading a tensor that is larger than the processor's caches."""
    data = torch.ones(size // 4, device=device)

    def read() -> float:
        return float(data.sum())

    return size / statistics.median(_seconds(read) for _ in range(repeats))
