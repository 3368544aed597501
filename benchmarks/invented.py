"""Random weights as a function of a tensor's name: two processes create the same ones without exchanging data.

The peer's process imports this module too, so it must not import flamingo_eval.
"""

from __future__ import annotations

import zlib

import torch
from torch import Tensor


def invented(name: str, shape: tuple[int, ...], device: torch.device) -> Tensor:
    """float32 on the device: gates half open, identity norms, everything else normal with 0.02.

    The same on every device of one kind, with one version of PyTorch.
    """
    if name.endswith("gate"):
        return torch.full(shape, 0.5, device=device)
    if len(shape) == 1 and name.endswith("weight"):
        return torch.ones(shape, device=device)
    generator = torch.Generator(device).manual_seed(zlib.crc32(name.encode()))
    return torch.empty(shape, device=device).normal_(0.0, 0.02, generator=generator)
