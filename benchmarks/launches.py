"""Would CUDA graphs pay? What one decoding step dispatches and reads, counted from shapes; no GPU and no weights.

Launching is taken for LAUNCH seconds an operator, an assumption: PyTorch hands a kernel over in some microseconds, and
an operator may take more than one. The rates are those of NVIDIA's data sheet of the H100 SXM. Nothing is measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from flamingo_eval.engine.beam import BeamState
from flamingo_eval.engine.branches import chain_mask
from flamingo_eval.engine.encoding import LastPictures
from flamingo_eval.engine.sight import Pieces, read
from flamingo_eval.engine.slots import SlotCache
from flamingo_eval.models.config import FlamingoConfig
from flamingo_eval.models.flamingo import Flamingo
from flamingo_eval.models.flops import ModelFlops
from flamingo_eval.models.presets import preset
from flamingo_eval.specs import DecodeSpec

LAUNCH = 5e-6  # seconds an operator
MEMORY_RATE, MATRIX_RATE = 3.35e12, 989e12  # bytes, dense bfloat16 operations a second
MODELS = ("openflamingo-3b", "openflamingo-9b")
QUESTION = DecodeSpec(beams=3, max_new_tokens=5)
ROWS = 64  # the engine's batch on CUDA
A_SHOT, A_QUERY = 15, 12  # tokens, as in compare.py


class Counted(TorchDispatchMode):
    """Counts operators that write something; those that only look at a tensor otherwise launch nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.operators = 0

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        looked_at = {_memory(a) for a in args if isinstance(a, Tensor)}
        written = [r for r in (result if isinstance(result, (tuple, list)) else [result]) if isinstance(r, Tensor)]
        self.operators += func._schema.is_mutable or any(_memory(r) not in looked_at for r in written)
        return result


def _memory(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


@dataclass(frozen=True, slots=True)
class Step:
    """One decoding step of a batch: operators, and the bytes of weights and of keys and values that it must read."""

    operators: int
    weights: int
    cache: int

    @property
    def launching(self) -> float:
        """Seconds, as assumed."""
        return self.operators * LAUNCH

    @property
    def reading(self) -> float:
        """Seconds that the bytes take at the memory's rate."""
        return (self.weights + self.cache) / MEMORY_RATE


def step_of(config: FlamingoConfig, rows: int, columns: int, spec: DecodeSpec = QUESTION) -> Step:
    """Count a step of `rows` prompts of `columns` tokens, with as many beams as the spec says, in bfloat16."""
    K, meta, kind = spec.beams, torch.device("meta"), torch.bfloat16
    with meta:
        flamingo = Flamingo(config).requires_grad_(False).to(kind)
        cache = SlotCache(config.decoder, rows, columns + K * spec.max_new_tokens, meta, kind)
        cache.extend_positions(torch.zeros(rows, columns, dtype=torch.long))
        picture = torch.zeros(rows, config.xattn.heads, config.resampler.latents, config.xattn.head_dim, dtype=kind)
        pictures = LastPictures(dict.fromkeys(config.xattn_blocks, (picture, picture)))
        every = torch.arange(rows * K)
        lengths = torch.full((rows,), columns)
        tokens = torch.zeros(rows, K, dtype=torch.long)
        chains = torch.zeros(rows, K, 1, dtype=torch.long)
    log_probs, stop = torch.zeros(rows, K, 64), torch.tensor([0])  # the beams' own part on the CPU, of few words
    state = BeamState.start(rows, K, spec.length_penalty)
    state.step(log_probs, stop)
    with torch.inference_mode(), Counted() as counted:
        mask = chain_mask(lengths, columns, chains, columns + K)
        pieces = Pieces(every.view(rows, K), None, every, every)
        x = read(flamingo, tokens, tokens, cache, pictures, pieces, mask)
        flamingo.decoder.logits(x.flatten(0, 1)).float().log_softmax(dim=-1)
        state.step(log_probs, stop)
    weights = sum(p.numel() for part in (flamingo.decoder, flamingo.xattn) for p in part.parameters())
    decoder = config.decoder
    seen = rows * columns * decoder.layers * 2 * decoder.kv_heads * decoder.head_dim
    seen += 2 * picture.numel() * len(config.xattn_blocks)
    return Step(counted.operators, weights * kind.itemsize, seen * kind.itemsize)


def launches(shots: Sequence[int]) -> None:
    """For one prompt and for a full batch: launching beside reading, and what share of a query the steps can be.

    Shares are those at full rates, which no kernel reaches; pictures count as known.
    """
    steps = QUESTION.max_new_tokens - 1
    print(f"A decoding step, {QUESTION.beams} beams, bfloat16. Assumed: {LAUNCH * 1e6:.0f} us an operator. Data sheet:")
    print(f"{MEMORY_RATE / 1e12} TB/s, {MATRIX_RATE / 1e12:.0f} TFLOP/s. Shares of a query with {steps} steps.\n")
    print(
        "| model | prompts | shots | operators | launching, ms | GB | reading them, ms | equal at, us an operator |",
        end="",
    )
    print(" share of decoding | share of launching not hidden |\n|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|")
    for name in MODELS:
        flops = ModelFlops(preset(name))
        for rows in (1, ROWS):
            for n in shots:
                length = A_SHOT * n + A_QUERY
                step = step_of(flops.config, rows, length)
                products = rows * (flops.reading(length) + (n + 1) * flops.visual_keys) / MATRIX_RATE
                prompts = max(products, step.weights / MEMORY_RATE)
                decoding = steps * max(step.launching, step.reading)
                bare = steps * max(step.launching - step.reading, 0.0)
                print(
                    f"| {name} | {rows} | {n} | {step.operators} | {1e3 * step.launching:.1f} "
                    f"| {(step.weights + step.cache) / 1e9:.1f} | {1e3 * step.reading:.1f} "
                    f"| {1e6 * step.reading / step.operators:.1f} | {100 * decoding / (decoding + prompts):.0f} % "
                    f"| {100 * bare / (decoding + prompts):.0f} % |",
                    flush=True,
                )
    print(flush=True)
