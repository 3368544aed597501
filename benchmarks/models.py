"""Models of real shapes with invented weights, for our side alone, or equal to the peer's, tensor by tensor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from benchmarks.invented import invented
from benchmarks.world import Shapes, word_tokenizer
from flamingo_eval.api import Model
from flamingo_eval.models.config import FlamingoConfig
from flamingo_eval.models.convert.clip import OPEN_CLIP, OPEN_CLIP_UNUSED
from flamingo_eval.models.convert.foreign_weights import ForeignTensor, without_prefix
from flamingo_eval.models.convert.language_models import FAMILIES
from flamingo_eval.models.convert.openflamingo import GATED, PERCEIVER, split
from flamingo_eval.models.convert.tensor_map import PlannedTensor, TensorMap, expected_shapes
from flamingo_eval.models.flamingo import Flamingo
from flamingo_eval.models.tokenizer import Tokenizer

PeerShapes = Mapping[str, Sequence[int]]  # of the peer's parameters, by name


def made(shapes: Shapes, peer: PeerShapes | None, device: torch.device, dtype: torch.dtype, work: Path) -> Model:
    """Our model on a device; with `peer`, it has the peer's weights, renamed as in `convert`."""
    config = shapes.config
    plans = _own(config, device) if peer is None else _of_peer(shapes, peer, device)
    with torch.device("meta"):
        flamingo = Flamingo(config)
    flamingo.load_state_dict({name: plan.make().to(dtype) for name, plan in plans.items()}, assign=True)
    tokenizer = Tokenizer(word_tokenizer(), config.tokens, config.decoder.vocabulary)
    return Model(flamingo.requires_grad_(False).eval(), tokenizer, work)


def _own(config: FlamingoConfig, device: torch.device) -> dict[str, PlannedTensor]:
    return {
        name: PlannedTensor(shape, torch.float32, lambda n=name, s=shape: invented(n, s, device))  # type: ignore[misc]
        for name, shape in expected_shapes(config).items()
    }


def _of_peer(shapes: Shapes, peer: PeerShapes, device: torch.device) -> dict[str, PlannedTensor]:
    config, family = shapes.config, FAMILIES[shapes.language]
    foreign = {name: _foreign(name, tuple(shape), device) for name, shape in peer.items()}
    tower = without_prefix(foreign, "vision_encoder.")
    for name in OPEN_CLIP_UNUSED:
        del tower[name]
    parts = split(foreign, family, "the peer")
    tensor_map = TensorMap(expected_shapes(config))
    tensor_map.add("vision.", OPEN_CLIP, tower, "the peer's tower")
    tensor_map.add("resampler.", PERCEIVER, parts.perceiver, "the peer's Resampler")
    tensor_map.add("xattn.", GATED, parts.gated, "the peer's gated blocks")
    tensor_map.add("decoder.", family.table, parts.language, "the peer's decoder", config.decoder.heads)
    return tensor_map.finish("the peer's model")


def _foreign(name: str, shape: tuple[int, ...], device: torch.device) -> ForeignTensor:
    return ForeignTensor(name, Path(name), shape, torch.float32, lambda: invented(name, shape, device))
