"""Linear layers in the layout of the CPU's matrix kernels, rearranged once instead of at every product.

PyTorch's plain CPU product arranges the weights again in each call; with the few rows of a prompt or of a decoding step
that costs up to two thirds of its time. The same operators are what torch.compile emits when weights are frozen.
"""

from __future__ import annotations

import copy
import os

import torch
from torch import Tensor, nn

from flamingo_eval.models.flamingo import Flamingo

SHARE_OF_RAM = 0.25  # rearranged weights are a second copy; larger models have the plain ones only
PACKED_TYPES = (torch.float32, torch.bfloat16)


class PackedLinear(nn.Module):
    """A linear layer with rearranged weights; for inference only."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        with torch.inference_mode():
            self.packed = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), None)
        self.bias = bias

    def forward(self, x: Tensor) -> Tensor:
        """[..., n_in] -> [..., n_out]"""
        out: Tensor = torch.ops.mkldnn._linear_pointwise(x, self.packed, self.bias, "none", [], "")
        return out


def packed(flamingo: Flamingo) -> Flamingo:
    """The same network with rearranged linear layers; the network itself if that is not possible or too large.

    Everything but the linear layers' weights is shared with the original network, which does not change.
    """
    weight = flamingo.decoder.embedding.weight
    supported = weight.device.type == "cpu" and weight.dtype in PACKED_TYPES and _has_kernels() and flamingo.ranks == 1
    if not supported:
        return flamingo
    linear = [m.weight.nbytes for m in flamingo.modules() if isinstance(m, nn.Linear)]
    if sum(linear) + weight.nbytes > SHARE_OF_RAM * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"):
        return flamingo
    packed_copy = _packed(flamingo)
    assert isinstance(packed_copy, Flamingo)
    if packed_copy.decoder.head is None:  # tied: the embedding is the output layer too
        packed_copy.decoder.head = PackedLinear(weight, None)  # type: ignore[assignment]
    return packed_copy


def _has_kernels() -> bool:
    available: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return available and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def _packed(module: nn.Module) -> nn.Module:
    if isinstance(module, nn.Linear):
        return PackedLinear(module.weight, module.bias)
    shell = copy.copy(module)
    shell.__dict__ = module.__dict__ | {
        "_modules": {name: None if part is None else _packed(part) for name, part in module._modules.items()}
    }
    return shell
