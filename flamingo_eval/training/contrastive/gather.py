"""The two-term loss over the pairs of all ranks: every picture is compared with every rank's texts."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

from flamingo_eval.training.bridge.ranks import Ranks


def gathered_rows(own: Tensor, ranks: Ranks) -> Tensor:
    """The rows of all ranks, in their order; gradients flow into this rank's rows. [n, E] -> [N, E]

    Ranks may have different numbers of rows. The sum of the gradients of all ranks is that of one process.
    """
    if ranks.size == 1:
        return own
    counts = [torch.zeros(1, dtype=torch.long, device=own.device) for _ in range(ranks.size)]
    dist.all_gather(counts, torch.tensor([len(own)], device=own.device))
    most = max(int(count) for count in counts)
    padded = own.detach().new_zeros(most, *own.shape[1:])
    padded[: len(own)] = own.detach()
    parts = [torch.empty_like(padded) for _ in range(ranks.size)]
    dist.all_gather(parts, padded)
    rows = [part[: int(count)] for part, count in zip(parts, counts, strict=True)]
    rows[ranks.rank] = own
    return torch.cat(rows)


def shared_scale(log_inverse_temperature: Tensor, ranks: Ranks) -> Tensor:
    """The inverse temperature; each rank gets its share of the gradient, because all compute the same loss."""
    own = log_inverse_temperature
    return (own.detach() + (own - own.detach()) / ranks.size).exp()


def add_gradients(parameters: list[Tensor], ranks: Ranks) -> None:
    """Every parameter's gradient becomes its sum over ranks."""
    if ranks.size == 1:
        return
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    flat = torch.cat([p.grad.reshape(-1) for p in parameters if p.grad is not None])
    dist.all_reduce(flat)
    start = 0
    for parameter in parameters:
        assert parameter.grad is not None
        parameter.grad.copy_(flat[start : start + parameter.numel()].view_as(parameter))
        start += parameter.numel()
