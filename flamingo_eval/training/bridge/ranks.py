"""One process or several of torchrun: the work of each rank, and how gradients are added."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn

from flamingo_eval.distributed.environment import rank_environment
from flamingo_eval.errors import UsageError
from flamingo_eval.training.bridge.network import Bridge

How = Literal["single", "ddp", "fsdp"]
STATE_BYTES = 16  # bytes per trained float32 weight: itself, gradient, two moments
SHARE_OF_MEMORY = 0.6  # share of a device's memory; above it weights are sharded


@dataclass(frozen=True, slots=True)
class Ranks:
    """This process and the other ranks of a run."""

    rank: int
    size: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether this rank prints and writes."""
        return self.rank == 0

    def sums(self, values: Tensor) -> Tensor:
        """The sum over ranks, on the CPU."""
        if self.size == 1:
            return values
        moved = values.to(self.device)
        dist.all_reduce(moved)
        return moved.cpu()

    def wait(self) -> None:
        """Wait for all ranks."""
        if self.size > 1:
            dist.barrier()


@contextmanager
def joined(device: str) -> Iterator[Ranks]:
    """The ranks that torchrun started, or this process alone. Raises UsageError."""
    environment = rank_environment()
    if environment is None:
        yield Ranks(0, 1, torch.device(device))
        return
    local = environment.local_rank
    if device == "cuda":
        if local >= torch.cuda.device_count():
            raise UsageError(f"rank {local} of this node has no GPU: there are {torch.cuda.device_count()}.")
        torch.cuda.set_device(local)
    here = torch.device("cuda", local) if device == "cuda" else torch.device("cpu")
    dist.init_process_group("nccl" if device == "cuda" else "gloo", device_id=here if device == "cuda" else None)
    try:
        yield Ranks(dist.get_rank(), dist.get_world_size(), here)
    finally:
        dist.destroy_process_group()


def how_to_share(parallel: Literal["auto", "ddp", "fsdp"], bridge: Bridge, ranks: Ranks) -> How:
    """DDP if a whole copy of the model fits on a device, else FSDP (or as in the recipe)."""
    if ranks.size == 1:
        return "single"
    if parallel != "auto":
        return parallel
    if ranks.device.type != "cuda":
        return "ddp"
    _, total = torch.cuda.mem_get_info(ranks.device)
    size = sum(p.numel() * (STATE_BYTES if p.requires_grad else p.itemsize) for p in bridge.parameters())
    return "fsdp" if size > SHARE_OF_MEMORY * total else "ddp"


def shared(bridge: Bridge, how: How, ranks: Ranks) -> nn.Module:
    """The module that computes the loss; under FSDP the weights of `bridge` are sharded, block by block."""
    if how == "single":
        return bridge
    if how == "ddp":
        devices = [ranks.device.index] if ranks.device.type == "cuda" else None
        return nn.parallel.DistributedDataParallel(bridge, device_ids=devices, broadcast_buffers=False)
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

    mesh = init_device_mesh(ranks.device.type, (ranks.size,))
    flamingo = bridge.flamingo
    parts: list[nn.Module] = [*flamingo.decoder.blocks, *flamingo.xattn.values(), flamingo.vision]
    parts += [part for part in (flamingo.resampler, bridge.new_rows) if part is not None]
    for part in parts:
        fully_shard(part, mesh=mesh)
    for gated in flamingo.xattn.values():
        register_fsdp_forward_method(gated, "project_visual")
    if bridge.new_rows is not None:
        register_fsdp_forward_method(bridge.new_rows, "logits")
    fully_shard(bridge, mesh=mesh)
    return bridge


def without_sync(module: nn.Module, how: How, last: bool) -> AbstractContextManager[Any]:
    """Gradients are not synchronised, except in an update's last backward pass."""
    if how == "ddp" and not last:
        assert isinstance(module, nn.parallel.DistributedDataParallel)
        return module.no_sync()
    if how == "fsdp":
        module.set_requires_gradient_sync(last)  # type: ignore[operator]
    return nullcontext()


def whole(tensor: Tensor) -> Tensor:
    """A parameter as one tensor, gathered from its shards if there are any (all ranks must call this)."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
