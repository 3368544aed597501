"""Names of foreign tensors without the parts that wrappers add, and the marks of quantised weights."""

from __future__ import annotations

from collections.abc import Iterable

import torch

# Parts of a name that torch.compile, FSDP and activation checkpointing put anywhere; DDP's and DeepSpeed's comes first
_WRAPPERS = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_fpw_module")
_LEADING = "module"

# Ends of the names under which bitsandbytes, GPTQ, AWQ, HQQ, FP8 and compressed-tensors keep what they pack
_QUANTISED = (
    ".qweight",
    ".qzeros",
    ".scales",
    ".g_idx",
    ".SCB",
    ".absmax",
    ".quant_map",
    ".quant_state",
    ".W_q",
    ".weight_scale",
    ".weight_scale_inv",
    ".weight_packed",
    ".input_scale",
)
_PACKED = (torch.int8, torch.float8_e4m3fn, torch.float8_e5m2)


def plain_name(name: str) -> str:
    """The tensor's name in the model itself."""
    parts = [part for part in name.split(".") if part not in _WRAPPERS]
    while len(parts) > 1 and parts[0] == _LEADING:
        del parts[0]
    return ".".join(parts)


def quantised(tensors: Iterable[tuple[str, torch.dtype]]) -> str:
    """A description of the first tensor that shows quantisation; empty if all are plain."""
    for name, dtype in tensors:
        if name.endswith(_QUANTISED) or ".quant_state." in name or ".absmax" in name:
            return name
        if dtype in _PACKED or (dtype == torch.uint8 and name.endswith(".weight")):
            return f"{name} of type {str(dtype).removeprefix('torch.')}"
    return ""
