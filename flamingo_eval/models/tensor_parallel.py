"""One model over several ranks: tensor parallelism inside a replica, for models larger than one device.

Heads and feed-forward columns are split, as in Megatron-LM (Shoeybi et al. 2019): each rank has its heads' queries,
keys and values and its columns of the first feed-forward matrix, and the rows of the second that belong to them; a
layer ends with two sums over ranks. The sums are PyTorch's (DTensor, parallelize_module). The decoder's
blocks and the gated blocks are split; embeddings, output layer, norms, vision encoder and Resampler are on every rank.

Each rank reads only its part of the files, so no rank ever holds the whole model. All ranks must get the same calls.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Shard
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

from flamingo_eval.errors import Problem, UsageError, problems_in
from flamingo_eval.models.checkpoint import (
    check_account,
    meta_flamingo,
    open_safetensors,
    shapes_in,
    weight_files,
)
from flamingo_eval.models.checkpoint_files import CONFIG
from flamingo_eval.models.config import FlamingoConfig
from flamingo_eval.models.config_json import read_config
from flamingo_eval.models.flamingo import Flamingo

COLUMNS = re.compile(r"(attention\.(qkv|queries|keys_values|relative\.project)|ff\.(up|gate))\.(weight|bias)$")
ROWS = re.compile(r"(attention\.out|ff\.down)\.weight$")
HEADS = re.compile(r"relative\.(content|distance)_bias$")
SPLIT = ("decoder.blocks.", "xattn.")


@dataclass(frozen=True, slots=True)
class Cut:
    """How a tensor is split: along `dim`, which consists of `parts` of these sizes, each divided among the ranks."""

    dim: int
    parts: tuple[int, ...]

    def ranges(self, rank: int, ranks: int) -> list[tuple[int, int]]:
        """The ranges of the tensor that belong to a rank."""
        ranges_of_rank, first = [], 0
        for part in self.parts:
            share = part // ranks
            ranges_of_rank.append((first + rank * share, first + (rank + 1) * share))
            first += part
        return ranges_of_rank


def require_divisible(config: FlamingoConfig, ranks: int) -> None:
    """Raise UsageError that names every size in the configuration that is not divisible by the number of ranks."""
    decoder, xattn = config.decoder, config.xattn
    sizes = {
        "decoder.heads": decoder.heads,
        "decoder.kv_heads": decoder.kv_heads,
        "decoder.ff_width": decoder.ff_width,
        "xattn.heads": xattn.heads,
        "xattn.ff_width": xattn.ff_width,
    }
    problems = [Problem(f"{n} is not divisible by {ranks} ranks.", key=key) for key, n in sizes.items() if n % ranks]
    if decoder.qk_norm:
        problems.append(Problem("a norm over all heads together cannot be split.", key="decoder.qk_norm"))
    if problems:
        raise problems_in(f"{config.name}: --tensor-parallel {ranks}", problems, UsageError)


def cut_of(name: str, shape: tuple[int, ...], config: FlamingoConfig) -> Cut | None:
    """How the tensor of that name is split; None: every rank has all of it."""
    if not name.startswith(SPLIT):
        return None
    if ROWS.search(name):
        return Cut(1, (shape[1],))
    if HEADS.search(name):
        return Cut(0, (shape[0],))
    if not COLUMNS.search(name):
        return None
    if ".qkv." in name:
        inner, kv_inner = (n * config.decoder.head_dim for n in (config.decoder.heads, config.decoder.kv_heads))
        return Cut(0, (inner, kv_inner, kv_inner))
    if ".keys_values." in name:
        return Cut(0, (shape[0] // 2, shape[0] // 2))
    return Cut(0, (shape[0],))


def bytes_a_rank(config: FlamingoConfig, ranks: int, item: int) -> int:
    """Expected bytes of weights per rank, from the shapes. `item`: bytes of a number."""
    total = 0
    for name, tensor in meta_flamingo(config).state_dict().items():
        total += tensor.numel() * item // (1 if cut_of(name, tuple(tensor.shape), config) is None else ranks)
    return total


def bytes_held(flamingo: Flamingo) -> int:
    """Bytes of weights in this rank."""
    return sum((p.to_local() if isinstance(p, DTensor) else p).nbytes for p in flamingo.parameters())


def load_parallel(folder: Path, device: torch.device, dtype: torch.dtype, mesh: DeviceMesh) -> Flamingo:
    """This rank's part of the network of a checkpoint folder. Raises CheckpointError, UsageError.

    `mesh` has one dimension: the ranks that share the model. The returned configuration has this rank's number of
    heads, for which caches are made.
    """
    config, ranks, rank = read_config(folder / CONFIG), mesh.size(), mesh.get_local_rank()
    require_divisible(config, ranks)
    flamingo = meta_flamingo(config)
    files = weight_files(folder)
    shapes = {name: tuple(tensor.shape) for name, tensor in flamingo.state_dict().items()}
    check_account(folder, shapes, shapes_in(files))
    _take_own_heads(flamingo, config, rank, ranks)
    weights: dict[str, Tensor] = {}
    for path in dict.fromkeys(files.values()):
        with open_safetensors(path) as file:
            for name in (n for n, p in files.items() if p == path):
                weights[name] = _own(file, name, cut_of(name, shapes[name], config), mesh, device, dtype)
    flamingo.load_state_dict(weights, strict=True, assign=True)
    return _joined(flamingo, mesh)


def _own(file: Any, name: str, cut: Cut | None, mesh: DeviceMesh, device: torch.device, dtype: torch.dtype) -> Tensor:
    if cut is None:
        tensor: Tensor = file.get_tensor(name).to(device, dtype)
        return tensor
    stored = file.get_slice(name)
    ranges = cut.ranges(mesh.get_local_rank(), mesh.size())
    parts = [stored[a:b] if cut.dim == 0 else stored[:, a:b] for a, b in ranges]
    shard = torch.cat(parts, dim=cut.dim).to(device, dtype)
    if HEADS.search(name):
        return shard  # used directly, never through a linear layer
    return DTensor.from_local(shard, mesh, [Shard(cut.dim)], run_check=False)


def _take_own_heads(flamingo: Flamingo, config: FlamingoConfig, rank: int, ranks: int) -> None:
    """Set the number of heads, and which ones, in the modules of a network on the meta device."""
    heads = config.decoder.heads // ranks
    decoder = replace(config.decoder, heads=heads, kv_heads=config.decoder.kv_heads // ranks)
    for block in flamingo.decoder.blocks:
        attention: Any = block.attention
        attention.config = decoder
        relative = attention.relative
        if relative is not None:
            relative.heads = heads
            for name in ("content_bias", "distance_bias"):
                setattr(relative, name, nn.Parameter(getattr(relative, name)[:heads], requires_grad=False))
    flamingo.decoder.own_heads = slice(rank * heads, (rank + 1) * heads)
    xattn: Any
    for xattn in flamingo.xattn.values():
        xattn.attention.heads = config.xattn.heads // ranks
    flamingo.config = replace(config, decoder=decoder)
    flamingo.ranks = ranks


def _joined(flamingo: Flamingo, mesh: DeviceMesh) -> Flamingo:
    """The linear layers that are split, with a sum over ranks after the second of each pair."""
    plan: dict[str, ColwiseParallel | RowwiseParallel] = {}
    for name, module in flamingo.named_modules():
        if isinstance(module, nn.Linear) and name.startswith(SPLIT):
            if COLUMNS.search(f"{name}.weight"):
                plan[name] = ColwiseParallel()
            elif ROWS.search(f"{name}.weight"):
                plan[name] = RowwiseParallel()
    styles: Mapping[str, Any] = plan
    parallelize_module(flamingo, mesh, dict(styles))
    return flamingo.requires_grad_(False).eval()
