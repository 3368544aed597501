"""This process's rank among those that torchrun or srun started. Imports no torch: it is read before torch loads."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from flamingo_eval.errors import UsageError

HOW = "Start with `torchrun --nproc-per-node N -m flamingo_eval run ...`, or unset WORLD_SIZE."


@dataclass(frozen=True, slots=True)
class RankEnvironment:
    """Rank of this process, number of ranks, and rank on its node."""

    rank: int
    size: int
    local_rank: int


def rank_environment(environment: Mapping[str, str] = os.environ) -> RankEnvironment | None:
    """The ranks as torchrun's variables describe them; None for a single process. Raises UsageError if incomplete."""
    size = _number(environment, "WORLD_SIZE", "1")
    if size < 2:
        return None
    missing = [k for k in ("RANK", "MASTER_ADDR", "MASTER_PORT") if not environment.get(k)]
    if missing:
        raise UsageError(f"WORLD_SIZE is {size}, but {', '.join(missing)} is not set.", fix=HOW)
    return RankEnvironment(_number(environment, "RANK"), size, _number(environment, "LOCAL_RANK", "0"))


def _number(environment: Mapping[str, str], name: str, default: str = "") -> int:
    value = environment.get(name, default)
    if not value.isdigit():
        raise UsageError(f"{name}={value}: expected an integer.", fix=HOW)
    return int(value)
