"""Initial weights for training, drawn from one generator in the order of the module tree."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from flamingo_eval.models.config import FlamingoConfig
from flamingo_eval.models.decoder import Decoder, RelativePositions, ShortConv
from flamingo_eval.models.flamingo import Flamingo
from flamingo_eval.models.nfnet import Block, StandardisedConv
from flamingo_eval.models.resampler import Resampler
from flamingo_eval.models.vit import ViT
from flamingo_eval.models.xattn import GatedXattn

STD = 0.02


@torch.no_grad()
def initialise(module: nn.Module, generator: torch.Generator) -> None:
    """Set every parameter: norms to 1 and 0, gates and branch gains to 0, weights from N(0, 0.02^2).

    Output projections of residual branches are scaled down by the decoder's depth (GPT-2). With gates at 0 a Flamingo
    computes exactly what its language model does (Flamingo v2 section 2.2).
    """

    def normal(parameter: Tensor | None, std: float = STD) -> None:
        if parameter is not None:
            parameter.normal_(0.0, std, generator=generator)

    for part in module.modules():
        if isinstance(part, StandardisedConv):
            normal(part.weight, 1.0)  # standardised before use, so its scale does not matter
            part.gain.fill_(1.0)
            _zero(part.bias)
        elif isinstance(part, (nn.Linear, nn.Conv2d)):
            normal(part.weight)
            _zero(part.bias)
        elif isinstance(part, nn.Embedding):
            normal(part.weight)
        elif isinstance(part, (nn.LayerNorm, nn.RMSNorm)):
            part.weight.fill_(1.0)
            _zero(getattr(part, "bias", None))
        elif isinstance(part, Block):
            part.branch_gain.zero_()
        elif isinstance(part, Resampler):
            for parameter in (part.time, part.grid, part.latents):
                normal(parameter)
        elif isinstance(part, GatedXattn):
            part.attention_gate.zero_()
            part.ff_gate.zero_()
        elif isinstance(part, RelativePositions):
            part.content_bias.zero_()
            part.distance_bias.zero_()
        elif isinstance(part, ShortConv):
            part.taps.fill_(0.4)  # of the same sign, so that a head can match a token by the tokens before it
            part.taps[0] = 1.0
        elif isinstance(part, ViT):
            normal(part.class_token)
            normal(part.positions)
    for part in module.modules():
        if isinstance(part, Decoder):
            for block in part.blocks:
                for name, parameter in block.named_parameters():
                    if name in ("attention.out.weight", "ff.down.weight"):
                        parameter.mul_((2 * len(part.blocks)) ** -0.5)


def new_flamingo(config: FlamingoConfig, seed: int) -> Flamingo:
    """A Flamingo with fresh weights on the CPU, the same for the same seed."""
    with torch.device("meta"):
        flamingo = Flamingo(config)
    flamingo.to_empty(device="cpu")
    initialise(flamingo, torch.Generator().manual_seed(seed))
    return flamingo


def _zero(parameter: Tensor | None) -> None:
    if parameter is not None:
        parameter.zero_()
