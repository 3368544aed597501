"""The loop that all stages share: schedule, clipping, curves, a state file to resume from.

Batches are a function of (seed, stage, update), so a resumed run gives the same result as an uninterrupted one.
"""

from __future__ import annotations

import io
import json
import math
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar, cast

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from flamingo_eval.files import write_atomically
from flamingo_eval.training.recipe import OptimSpec

SAVE_EVERY_S = 60.0
LOG_EVERY = 10  # updates


Forward = TypeVar("Forward", bound=Callable[..., Tensor])


@dataclass(frozen=True, slots=True)
class Place:
    """Where a stage writes, and its device, dtype and compiler option."""

    folder: Path
    device: torch.device
    dtype: torch.dtype
    console: Console
    compile: bool = False

    def compiled(self, forward: Forward) -> Forward:
        """A forward pass with its small operations fused, for any length; unchanged if `compile` is off."""
        return cast(Forward, torch.compile(forward, dynamic=True)) if self.compile else forward


Update = Callable[[int], tuple[Tensor, Mapping[str, float]]]  # update -> loss, and other values to log


def learning_rate(spec: OptimSpec, update: int) -> float:
    """The learning rate of one update, counted from 0."""
    if update < spec.warmup:
        return spec.lr * (update + 1) / spec.warmup
    progress = (update - spec.warmup) / max(spec.updates - spec.warmup, 1)
    return spec.lr * (spec.final + (1 - spec.final) * 0.5 * (1 + math.cos(math.pi * progress)))


def make_optimizer(
    modules: Iterable[nn.Module],
    spec: OptimSpec,
    gate_lr: float = 1.0,
    fused: bool = False,
    factors: Mapping[str, float] | None = None,
) -> torch.optim.AdamW:
    """AdamW over all parameters that are not frozen; vectors and scalars (norms, biases, gates) have no weight decay.

    Gates have `gate_lr` times the learning rate: they start at 0 and decide when the other parameters get gradients.
    `factors` multiplies the learning rate of single parameters; their weight decay stays what it is.
    """
    own = factors or {}
    named = [(n, p) for m in modules for n, p in m.named_parameters() if p.requires_grad]
    gates = [p for n, p in named if n.endswith("_gate")]
    others = [p for n, p in named if not n.endswith("_gate") and n not in own]
    groups = [
        {"params": [p for p in others if p.ndim >= 2], "weight_decay": spec.weight_decay, "factor": 1.0},
        {"params": [p for p in others if p.ndim < 2], "weight_decay": 0.0, "factor": 1.0},
        {"params": gates, "weight_decay": 0.0, "factor": gate_lr},
    ]
    for factor in sorted(set(own.values())):
        parameters = [p for n, p in named if own.get(n) == factor]
        groups.append({"params": parameters, "weight_decay": spec.weight_decay / factor, "factor": factor})
    return torch.optim.AdamW(
        [g for g in groups if g["params"]], lr=spec.lr, betas=(0.9, spec.beta2), fused=fused or None
    )


def fit(
    stage: str, modules: Mapping[str, nn.Module], spec: OptimSpec, update: Update, place: Place, gate_lr: float = 1.0
) -> None:
    """Train the modules in place until `spec.updates`, from the stage's state file if there is one.

    Writes <stage>.pt (state) and <stage>.jsonl (curve: update, mean loss since the previous row, other values of the
    last update, lr, seconds) into the folder.
    """
    optimizer = make_optimizer(modules.values(), spec, gate_lr)
    state_file, curve_file = place.folder / f"{stage}.pt", place.folder / f"{stage}.jsonl"
    start, seconds = _resume(state_file, modules, optimizer)
    if start >= spec.updates:
        return
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    clock = saved_at = time.monotonic()
    losses: list[float] = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, TextColumn("{task.fields[loss]}"), console=place.console) as progress:
        bar = progress.add_task(stage, total=spec.updates, completed=start, loss="")
        for i in range(start, spec.updates):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(spec, i) * group["factor"]
            optimizer.zero_grad(set_to_none=True)
            with attention_kernels(place.device):
                with torch.autocast(place.device.type, place.dtype, enabled=place.dtype != torch.float32):
                    loss, logged = update(i)
                loss.backward()  # type: ignore[no-untyped-call]
            norm = nn.utils.clip_grad_norm_(parameters, spec.clip)
            optimizer.step()
            losses.append(loss.item())
            progress.update(bar, advance=1, loss=f"loss {losses[-1]:.3f}")
            now = time.monotonic()
            if (i + 1) % LOG_EVERY == 0 or i + 1 == spec.updates:
                row = {"update": i + 1, "loss": sum(losses) / len(losses), "norm": float(norm), **logged}
                losses.clear()
                row |= {"lr": learning_rate(spec, i), "seconds": seconds + now - clock}
                with curve_file.open("a", encoding="utf-8") as curve:
                    curve.write(json.dumps({k: round(v, 5) for k, v in row.items()}) + "\n")
            if now - saved_at > SAVE_EVERY_S or i + 1 == spec.updates:
                _save(state_file, modules, optimizer, i + 1, seconds + now - clock)
                saved_at = time.monotonic()


def attention_kernels(device: torch.device) -> AbstractContextManager[None]:
    """Plain attention on a CPU: the fused kernel's backward pass took 40 % of an update, plain products 20 %."""
    return sdpa_kernel(SDPBackend.MATH) if device.type == "cpu" else nullcontext()


def finished(stage: str, modules: Mapping[str, nn.Module], spec: OptimSpec, place: Place) -> bool:
    """Whether a previous process finished a stage; if so, load its weights into the modules."""
    file = place.folder / f"{stage}.pt"
    if not file.is_file():
        return False
    state = torch.load(file, map_location="cpu", weights_only=True)
    if int(state["update"]) < spec.updates:
        return False
    for name, module in modules.items():
        module.load_state_dict(state["modules"][name], strict=True)
    return True


def _save(file: Path, modules: Mapping[str, nn.Module], optimizer: torch.optim.Optimizer, n: int, s: float) -> None:
    weights = {name: module.state_dict() for name, module in modules.items()}
    state = {"update": n, "seconds": s, "modules": weights, "optimizer": optimizer.state_dict()}
    content = io.BytesIO()
    torch.save(state, content)
    write_atomically(file, content.getvalue())


def _resume(file: Path, modules: Mapping[str, nn.Module], optimizer: torch.optim.Optimizer) -> tuple[int, float]:
    if not file.is_file():
        return 0, 0.0
    state = torch.load(file, map_location="cpu", weights_only=True)
    for name, module in modules.items():
        module.load_state_dict(state["modules"][name], strict=True)
    optimizer.load_state_dict(state["optimizer"])
    return int(state["update"]), float(state["seconds"])
