"""Random weights that are a function of a tensor's name: two processes make the same ones and exchange nothing.

Imported by the peer's process too: nothing of flamingo_eval here.
"""

from __future__ import annotations

import zlib

import torch
from torch import Tensor


def invented(name: str, shape: tuple[int, ...], device: torch.device) -> Tensor:
    """float32 on the device: gates half open, norms that pass what comes, all else normal of 0.02.

    The same on every device of one kind, with one version of PyTorch.
    """
    if name.endswith("gate"):
        return torch.full(shape, 0.5, device=device)
    if len(shape) == 1 and name.endswith("weight"):
        return torch.ones(shape, device=device)
    generator = torch.Generator(device).manual_seed(zlib.crc32(name.encode()))
    return torch.empty(shape, device=device).normal_(0.0, 0.02, generator=generator)
