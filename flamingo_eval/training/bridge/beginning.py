"""How the new parts of a bridge begin: as built, with unit gain, or as large as what they are added to.

A pretrained language model's stream grows from block to block (root mean squares of 0.1 to 30 in SmolLM2-135M).
Beside it, what a gated block of unit gain adds is lost, and the gates cannot exceed 1.
"""

from __future__ import annotations

import math

import torch

from flamingo_eval.models.flamingo import Flamingo
from flamingo_eval.training.bridge.network import Bridge
from flamingo_eval.training.bridge.recipe import Init
from flamingo_eval.training.flamingo_stage import new_blocks

OUTPUTS = ("attention.out.weight", "ff.down.weight")
TEXTS, TOKENS = 4, 64  # random ids that the stream is measured on


def begin(bridge: Bridge, init: Init, seed: int, device: torch.device) -> dict[str, float]:
    """Draw the new parts' weights, gates at zero. -> by parameter, its learning rate as a multiple of all others'."""
    if init == "built":
        return {}
    new_blocks(bridge.flamingo, 0.0, seed)
    bridge.to(device)
    if init == "unit":
        return {}
    sizes = stream_sizes(bridge.flamingo, seed)
    factors: dict[str, float] = {}
    with torch.no_grad():
        for name, parameter in bridge.named_parameters():
            if name.startswith("flamingo.xattn.") and name.endswith(OUTPUTS):
                factors[name] = sizes[int(name.split(".")[2])]
                parameter.mul_(factors[name])
    return factors


@torch.no_grad()
def stream_sizes(flamingo: Flamingo, seed: int) -> dict[int, float]:
    """Root mean square of what each gated block is added to: the median over tokens, to the nearest power of two.

    Rounded, because other processors and numbers of threads add in another order.
    """
    decoder = flamingo.decoder
    device = decoder.embedding.weight.device
    rows = decoder.config.head_rows or decoder.config.vocabulary
    ids = torch.randint(0, rows, (TEXTS, TOKENS), generator=torch.Generator().manual_seed(seed)).to(device)
    positions = decoder.next_positions(ids, None, None)
    x = decoder.embed(ids, positions)
    view = decoder.attention_view(positions)
    sizes: dict[int, float] = {}
    for i, block in enumerate(decoder.blocks):
        if i in flamingo.config.xattn_blocks:
            size = float(x.float().square().mean(-1).sqrt().median())
            sizes[i] = 2.0 ** round(math.log2(max(size, 2.0**-10)))
        x = block(x, i, view, None)
    return sizes
