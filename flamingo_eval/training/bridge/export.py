"""The trained weights as a checkpoint folder: frozen parts are copied from the built folder, bit for bit."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from flamingo_eval.models.checkpoint import weight_files
from flamingo_eval.models.checkpoint_files import CARD, TOKENIZER
from flamingo_eval.models.config import FlamingoConfig
from flamingo_eval.models.convert.foreign_weights import ForeignTensor, close_files, file_weights
from flamingo_eval.models.convert.tensor_map import PlannedTensor, expected_shapes
from flamingo_eval.models.convert.writer import new_folder, write_checkpoint
from flamingo_eval.training.bridge.network import Bridge
from flamingo_eval.training.bridge.ranks import whole
from flamingo_eval.training.bridge.recipe import BridgeRecipe


def gathered(bridge: Bridge) -> dict[str, Tensor]:
    """The trained parameters, whole, on the CPU (all ranks must call this)."""
    return {
        name: whole(parameter.detach()).to("cpu", copy=True)
        for name, parameter in bridge.named_parameters()
        if parameter.requires_grad
    }


def write_folder(
    out: Path, config: FlamingoConfig, source: Path, trained: Mapping[str, Tensor], first_row: int | None, card: str
) -> None:
    """A checkpoint folder; `trained` are the parameters of the network by their names in a Bridge.

    New parts are written in float32, independent of the dtype of the frozen ones. Raises UsageError, CheckpointError.
    """
    frozen: dict[str, ForeignTensor] = {}
    for file in dict.fromkeys(weight_files(source).values()):
        frozen |= file_weights(file)
    rows = {"decoder.embedding.weight": "new_rows.embedding", "decoder.head.weight": "new_rows.head"}
    plans: dict[str, PlannedTensor] = {}
    for name, shape in expected_shapes(config).items():
        own = trained.get(f"flamingo.{name}")
        new = trained.get(rows.get(name, ""))
        if own is not None:
            plans[name] = PlannedTensor(shape, torch.float32, partial(Tensor.clone, own))
        elif new is not None and first_row is not None:
            make = partial(_with_rows, frozen[name], first_row, new)
            plans[name] = PlannedTensor(shape, frozen[name].dtype, make, (frozen[name],))
        else:
            plans[name] = PlannedTensor(shape, frozen[name].dtype, frozen[name].read, (frozen[name],))
    with new_folder(out) as unfinished:
        tokenizer = (source / TOKENIZER).read_text(encoding="utf-8")
        write_checkpoint(unfinished, config, plans, tokenizer, card)
    close_files()


def _with_rows(foreign: ForeignTensor, first: int, rows: Tensor) -> Tensor:
    weight = foreign.read().clone()
    weight[first : first + len(rows)] = rows.to(weight.dtype)
    return weight


def bridge_card(
    recipe: BridgeRecipe, config: FlamingoConfig, source: Path, updates: int, data: Mapping[str, str]
) -> str:
    """README.md of a trained bridge: its parts, training time and data."""
    lines = [
        f"# {config.name}",
        "",
        f"A bridge trained by flamingo-eval for {updates:,} updates (recipe `{recipe.name}`, seed {recipe.seed}).",
        "Only the Resampler, the gated blocks and the rows of added tokens were trained; the vision encoder and the",
        f"language model are those of `{source.name}`, unchanged.",
        "",
        "| data set | samples per update | weight | samples seen |",
        "|---|--:|--:|--:|",
        *(
            f"| {spec.name} ({spec.kind}) | {spec.batch} | {spec.weight:g} | {data[spec.name]} |"
            for spec in recipe.data
        ),
        "",
        f"Optimiser: `{json.dumps({'lr': recipe.optim.lr, 'updates': recipe.optim.updates})}`, {recipe.dtype}.",
        "",
    ]
    built = source / CARD
    if built.is_file():
        lines += ["## The folder it began from", "", *_below(built.read_text(encoding="utf-8"))]
    return "\n".join(lines) + "\n"


def _below(card: str) -> list[str]:
    """A card's lines with its headings one level deeper."""
    return [f"##{line}" if line.startswith("#") else line for line in card.splitlines()]
