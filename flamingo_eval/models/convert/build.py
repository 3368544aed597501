"""A checkpoint folder from any frozen vision encoder and any frozen language model, in which a bridge is trained.

Resampler and gated blocks are new, drawn from a seed, with gates at zero: until they are trained, the model's text is
that of the language model, with pictures or without (Flamingo v2 section 2.2).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from flamingo_eval.errors import CheckpointError, UsageError
from flamingo_eval.models.checkpoint import weight_files
from flamingo_eval.models.checkpoint_files import CONFIG
from flamingo_eval.models.config import (
    DecoderConfig,
    FlamingoConfig,
    PreprocessConfig,
    ResamplerConfig,
    VisionConfig,
    ViTConfig,
    XattnConfig,
)
from flamingo_eval.models.config_json import read_config, read_encoder_config, read_json
from flamingo_eval.models.convert import siglip
from flamingo_eval.models.convert.added_tokens import NewRows, add_tokens, grown
from flamingo_eval.models.convert.card import built_card
from flamingo_eval.models.convert.clip import read_tower
from flamingo_eval.models.convert.foreign_weights import ForeignTensor, close_files, file_weights
from flamingo_eval.models.convert.hf_tokenizer import read_vocabulary
from flamingo_eval.models.convert.language_models import Family, read_language_model
from flamingo_eval.models.convert.tensor_map import PlannedTensor, Table, TensorMap, expected_shapes
from flamingo_eval.models.convert.writer import check_out, new_folder, write_checkpoint
from flamingo_eval.models.decoder import Decoder
from flamingo_eval.models.flamingo import build_vision, parameter_counts
from flamingo_eval.models.initialise import initialise
from flamingo_eval.models.resampler import Resampler
from flamingo_eval.models.xattn import GatedXattn

HEAD_WIDTH = 64  # of the new parts, if their widths are divisible by it
# Gated blocks before every n-th block, by the language model's size in billions (Flamingo v2 table 1)
EVERY = ((3.0, 1), (20.0, 4), (float("inf"), 7))


@dataclass(frozen=True, slots=True)
class BridgeOptions:
    """The shape of the new parts. None: derived from the sizes of the frozen parts, as in the paper."""

    every: int | None = None
    latents: int = 64
    resampler_layers: int = 6
    resampler_width: int | None = None  # the vision encoder's
    new_rows: NewRows = "trained"
    seed: int = 0
    placement: Literal["first", "last"] = "first"  # of each `every` blocks: before the first, or before the last
    keep_text: bool = False  # tokens that see no picture pass the gated blocks unchanged


@dataclass(frozen=True, slots=True)
class Vision:
    """A frozen encoder: its shape, its preprocessing, and its tensors, named as in `table` (None: named as ours)."""

    config: VisionConfig
    preprocess: PreprocessConfig
    weights: Mapping[str, ForeignTensor]
    table: Table | None
    notes: tuple[str, ...] = ()


def build(
    vision: Path,
    language_model: Path,
    out: Path,
    options: BridgeOptions,
    tokenizer: Path | None = None,
    vision_config: str | None = None,
) -> tuple[FlamingoConfig, tuple[str, ...]]:
    """Write the folder to `out`; returns its configuration and notes for the user.

    Raises CheckpointError (all problems at once, each with its file) and UsageError (`out` exists or cannot be written,
    options that fit no model).
    """
    check_out(out)
    encoder = read_vision(vision, vision_config)
    family, decoder, language, notes = read_language_model(language_model)
    embedding = f"{family.embedding}.weight"
    if embedding not in language:
        raise CheckpointError(f"{language_model}: the tensor {embedding} is missing.")
    folder = tokenizer or language_model
    fast, settings = read_vocabulary(folder, ())
    base = language[embedding].shape[0]
    tokens, vocabulary = add_tokens(fast, settings, options.new_rows, base, folder)
    decoder = replace(decoder, vocabulary=vocabulary.rows, head_rows=vocabulary.head_rows(options.new_rows))
    config = FlamingoConfig(
        name=out.resolve().name,
        vision=encoder.config,
        preprocess=encoder.preprocess,
        resampler=_resampler(encoder.config, options),
        xattn=_xattn(decoder, options),
        decoder=decoder,
        tokens=tokens,
    )
    if config.xattn.every > decoder.layers:
        raise UsageError(
            f"--cross-attention-every {config.xattn.every}: the language model has {decoder.layers} blocks.",
            fix=f"Give 1 to {decoder.layers}.",
        )
    tensor_map = TensorMap(expected_shapes(config))
    _add_vision(tensor_map, encoder, vision)
    _add_new_parts(tensor_map, config, options.seed, language[embedding].dtype)
    _add_language(tensor_map, family, decoder, language, language_model)
    plans = tensor_map.finish(str(language_model))
    notes = encoder.notes + notes
    card = built_card(config, family.title, {"vision": vision, "language model": language_model}, notes)
    with new_folder(out) as unfinished:
        write_checkpoint(unfinished, config, plans, fast.to_str(), card)
    close_files()
    return config, notes


def read_vision(path: Path, vision_config: str | None) -> Vision:
    """A frozen encoder: CLIP in every form that `convert` accepts, SigLIP, or the encoder of one of our folders.

    Raises CheckpointError.
    """
    for subfolder in ("checkpoint", "encoder"):  # in the folder of `flamingo-eval train`
        if (path / subfolder / CONFIG).is_file():
            path = path / subfolder
    values = read_json(path / CONFIG) if (path / CONFIG).is_file() else {}
    if "vision" in values and "model_type" not in values:
        config = read_config(path / CONFIG) if "decoder" in values else read_encoder_config(path / CONFIG)
        weights: dict[str, ForeignTensor] = {}
        for file in dict.fromkeys(weight_files(path).values()):
            weights |= {n: w for n, w in file_weights(file).items() if n.startswith("vision.")}
        return Vision(config.vision, config.preprocess, weights, None)
    tower = (
        siglip.read_siglip(path) if values.get("model_type") in siglip.MODEL_TYPES else read_tower(path, vision_config)
    )
    return Vision(tower.config, tower.preprocess, tower.weights, tower.table, tower.notes)


def encoder_weights(vision: Vision, path: Path) -> dict[str, Tensor]:
    """The weights of an encoder under our names, float32. Raises CheckpointError."""
    with torch.device("meta"):
        shapes = {f"vision.{n}": tuple(t.shape) for n, t in build_vision(vision.config).state_dict().items()}
    tensor_map = TensorMap(shapes)
    _add_vision(tensor_map, vision, path)
    plans = tensor_map.finish(str(path))
    return {name.removeprefix("vision."): plan.make().float() for name, plan in plans.items()}


def _resampler(vision: VisionConfig, options: BridgeOptions) -> ResamplerConfig:
    width = options.resampler_width or vision.width
    heads, head_dim = _heads(width)
    return ResamplerConfig(
        width=width,
        layers=options.resampler_layers,
        heads=heads,
        head_dim=head_dim,
        latents=options.latents,
        ff_width=4 * width,
        grid=0 if isinstance(vision, ViTConfig) else vision.positions,  # a ViT's tokens know their positions
        project_input=width != vision.width,
    )


def _xattn(decoder: DecoderConfig, options: BridgeOptions) -> XattnConfig:
    heads, head_dim = _heads(decoder.width)
    every = options.every
    if every is None:
        with torch.device("meta"):
            billions = sum(p.numel() for p in Decoder(decoder).parameters()) / 1e9
        every = next(n for largest, n in EVERY if billions <= largest)
    return XattnConfig(
        every=every,
        placement=options.placement,
        heads=heads,
        head_dim=head_dim,
        ff_width=4 * decoder.width,
        keeps_text=options.keep_text,
    )


def _heads(width: int) -> tuple[int, int]:
    """Number of heads and their width; together they are as wide as their input or a little narrower."""
    return (width // HEAD_WIDTH, HEAD_WIDTH) if width >= HEAD_WIDTH else (1, width)


def _add_vision(tensor_map: TensorMap, vision: Vision, path: Path) -> None:
    if vision.table is not None:
        tensor_map.add("vision.", vision.table, vision.weights, path.name)
        return
    for name in (name for name in tensor_map.expected if name.startswith("vision.")):
        foreign = vision.weights.get(name)
        if foreign is None:
            tensor_map.missing(name, path.name, path)
        else:
            tensor_map.set(name, PlannedTensor(foreign.shape, foreign.dtype, foreign.read, (foreign,)), name)


def _add_new_parts(tensor_map: TensorMap, config: FlamingoConfig, seed: int, dtype: torch.dtype) -> None:
    """Resampler and gated blocks, each drawn from the seed and its own index; one is in memory at a time."""
    assert isinstance(config.resampler, ResamplerConfig)
    parts: dict[str, Callable[[], nn.Module]] = {
        "resampler.": partial(Resampler, config.resampler, config.vision.width)
    }
    for block in config.xattn_blocks:
        parts[f"xattn.{block}."] = partial(GatedXattn, config.xattn, config.decoder.width, config.visual_width)
    for i, (prefix, make_part) in enumerate(parts.items()):
        drawn = _Drawn(make_part, 1000 * seed + i)
        for name in (name for name in tensor_map.expected if name.startswith(prefix)):
            shape = tensor_map.expected[name]
            tensor_map.set(name, PlannedTensor(shape, dtype, partial(drawn.tensor, name[len(prefix) :])), name)


class _Drawn:
    """A module with fresh weights, created for its first tensor and released after its last."""

    def __init__(self, make: Callable[[], nn.Module], seed: int) -> None:
        self.make, self.seed = make, seed
        self.left: dict[str, Tensor] = {}

    def tensor(self, name: str) -> Tensor:
        """One of its tensors, float32."""
        if not self.left:
            module = self.make()
            initialise(module, torch.Generator().manual_seed(self.seed))
            self.left = dict(module.state_dict())
        return self.left.pop(name)


def _add_language(
    tensor_map: TensorMap, family: Family, decoder: DecoderConfig, language: Mapping[str, ForeignTensor], path: Path
) -> None:
    """The frozen language model, unchanged; embedding and head get rows for new tokens."""
    weights = dict(language)
    file = next((foreign.file for foreign in weights.values()), path)
    grow = {"embedding.weight": f"{family.embedding}.weight"}
    if decoder.tied_head:
        weights.pop(f"{family.head}.weight", None)  # some files contain them anyway
    else:
        grow["head.weight"] = f"{family.head}.weight"
    if decoder.head_bias:
        grow["head.bias"] = f"{family.head}.bias"
    for name, foreign_name in grow.items():
        foreign = weights.pop(foreign_name, None)
        if foreign is None:
            tensor_map.missing(foreign_name, path.name, file)
        else:
            tensor_map.set(f"decoder.{name}", grown(foreign, decoder.vocabulary), foreign.name)
    tensor_map.add("decoder.", family.table, weights, path.name, decoder.heads, file)


# The paper's models (Flamingo v2 table 6): parameters in billions, by the names of `parameter_counts`
PAPER: Mapping[str, Mapping[str, float]] = {
    "Flamingo-3B": {"vision": 0.435, "resampler": 0.194, "xattn": 1.2, "decoder": 1.4},
    "Flamingo-9B": {"vision": 0.435, "resampler": 0.194, "xattn": 1.6, "decoder": 7.1},
    "Flamingo-80B": {"vision": 0.435, "resampler": 0.194, "xattn": 10.0, "decoder": 70.0},
}


def shares(config: FlamingoConfig) -> tuple[str, tuple[tuple[str, int, float, float], ...]]:
    """For each part: parameters, share of the whole, share in the paper's model with the nearest language model.

    -> the name of that model; (part, count, share, paper's share), shares between 0 and 1
    """
    counts = parameter_counts(config)
    total = sum(counts.values())
    nearest = min(PAPER, key=lambda name: abs(PAPER[name]["decoder"] - counts["decoder"] / 1e9))
    paper_total = sum(PAPER[nearest].values())
    return nearest, tuple((part, n, n / total, PAPER[nearest][part] / paper_total) for part, n in counts.items())
