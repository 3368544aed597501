"""CLIP vision towers: Hugging Face folders, open_clip folders, plain state dicts of open_clip or OpenAI."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from flamingo_eval.errors import CheckpointError, Problem, did_you_mean
from flamingo_eval.models.config import Activation, PreprocessConfig, ViTConfig
from flamingo_eval.models.config_json import read_json
from flamingo_eval.models.convert.foreign_weights import (
    HUGGING_FACE_FILES,
    OPEN_CLIP_FILES,
    ForeignTensor,
    Weights,
    file_weights,
    folder_weights,
    without_prefix,
)
from flamingo_eval.models.convert.hf_config import ForeignConfig
from flamingo_eval.models.convert.tensor_map import Table, stack
from flamingo_eval.models.presets import CLIP_PIXELS, VITS

# transformers.CLIPVisionModel, below `vision_model.`; "layrnorm" is theirs
HUGGING_FACE: Table = {
    "patches": "embeddings.patch_embedding",
    "class_token": "embeddings.class_embedding",
    "positions": "embeddings.position_embedding.weight",
    "norm_in": "pre_layrnorm",
    "blocks.{i}.norm1": "encoder.layers.{i}.layer_norm1",
    "blocks.{i}.qkv": stack(*(f"encoder.layers.{{i}}.self_attn.{p}_proj" for p in "qkv")),
    "blocks.{i}.out": "encoder.layers.{i}.self_attn.out_proj",
    "blocks.{i}.norm2": "encoder.layers.{i}.layer_norm2",
    "blocks.{i}.ff.up": "encoder.layers.{i}.mlp.fc1",
    "blocks.{i}.ff.down": "encoder.layers.{i}.mlp.fc2",
}
_HUGGING_FACE_UNUSED = ("post_layernorm.weight", "post_layernorm.bias", "embeddings.position_ids")

# open_clip and OpenAI, below `visual.`
OPEN_CLIP: Table = {
    "patches": "conv1",
    "class_token": "class_embedding",
    "positions": "positional_embedding",
    "norm_in": "ln_pre",
    "blocks.{i}.norm1": "transformer.resblocks.{i}.ln_1",
    "blocks.{i}.qkv.weight": "transformer.resblocks.{i}.attn.in_proj_weight",
    "blocks.{i}.qkv.bias": "transformer.resblocks.{i}.attn.in_proj_bias",
    "blocks.{i}.out": "transformer.resblocks.{i}.attn.out_proj",
    "blocks.{i}.norm2": "transformer.resblocks.{i}.ln_2",
    "blocks.{i}.ff.up": "transformer.resblocks.{i}.mlp.c_fc",
    "blocks.{i}.ff.down": "transformer.resblocks.{i}.mlp.c_proj",
}
# Settings of open_clip for what follows the patch tokens, or for training
_AFTER_THE_PATCHES = (
    "pool_type",
    "final_ln_after_pool",
    "global_average_pool",
    "output_tokens",
    "attn_pooler_queries",
    "attn_pooler_heads",
    "n_queries",
    "timm_pool",
    "timm_proj",
    "timm_proj_bias",
    "timm_drop",
    "timm_drop_path",
)
_BOOKKEEPING = ("image_processor_type", "feature_extractor_type", "processor_class")
OPEN_CLIP_UNUSED = ("ln_post.weight", "ln_post.bias", "proj")
_OPENAI_MARKS = ("input_resolution", "context_length", "vocab_size")  # entries that only OpenAI's state dicts have


@dataclass(frozen=True, slots=True)
class Tower:
    """A vision tower as stored: its shape, its preprocessing, its tensors and the table of their names.

    `unused` tensors (the last norm and the projection, which Flamingo-style models bypass) are not converted.
    """

    config: ViTConfig
    preprocess: PreprocessConfig
    weights: dict[str, ForeignTensor]
    table: Table
    notes: tuple[str, ...] = ()


def read_tower(path: Path, vision_config: str | None) -> Tower:
    """A vision tower from a folder or a file of weights. Raises CheckpointError.

    `vision_config` is for plain state dicts: a name (ViT-L-14) or an open_clip model_config.json.
    """
    if path.is_file():
        return _plain(path, vision_config)
    if not path.is_dir():
        raise CheckpointError(f"{path}: there is no such file or folder.")
    settings = next((path / n for n in ("open_clip_config.json", "model_config.json") if (path / n).is_file()), None)
    hugging_face = (path / "config.json").is_file()
    two_descriptions = settings is not None and hugging_face
    if two_descriptions and not any((path / name).is_file() for name in OPEN_CLIP_FILES):
        is_full_model = any(name.startswith("vision_model.") for name in folder_weights(path))  # of one file of weights
        return _hugging_face(path) if is_full_model or settings is None else _open_clip(path, settings)
    if settings is not None:
        return _open_clip(path, settings)
    if hugging_face:
        return _hugging_face(path)
    raise CheckpointError(
        f"{path}: neither a config.json (Hugging Face) nor a model_config.json (open_clip) is in it.",
        fix="Give a state dict as a file, with --vision-config ViT-L-14.",
    )


# -------------------------------------------------------------------------------------------------------- Hugging Face


def hugging_face_vit(
    config: ForeignConfig, patch: int = 32, activation: str = "quick_gelu", norm_eps: float = 1e-5
) -> ViTConfig:
    """A CLIPVisionConfig (IDEFICS' and SigLIP's have the same keys) as ours.

    Missing keys have transformers' defaults, three of which differ by model.
    """
    width = config.whole("hidden_size", "embed_dim", default=768)
    config.require("num_channels", 3, default=3)
    return ViTConfig(
        image_size=config.whole("image_size", default=224),
        patch=config.whole("patch_size", default=patch),
        width=width,
        layers=config.layers("num_hidden_layers", default=12),
        heads=config.heads(width, "num_attention_heads", default=12),
        ff_width=config.whole("intermediate_size", default=3072),
        activation=config.activation("hidden_act", activation),
        norm_eps=config.number("layer_norm_eps", default=norm_eps),
    )


def _hugging_face(folder: Path) -> Tower:
    path = folder / "config.json"
    values = read_json(path)
    kind = values.get("model_type")
    if kind not in ("clip", "clip_vision_model"):
        raise CheckpointError(
            f"{path}: model_type '{kind}' is not a CLIP vision model.", fix="Supported: clip_vision_model, clip."
        )
    config = ForeignConfig(path, values.get("vision_config", {}) if kind == "clip" else values)
    vit = hugging_face_vit(config)
    config.done()
    weights = folder_weights(folder)
    tower = without_prefix(weights, "vision_model.") or dict(weights)
    preprocess = hugging_face_pixels(folder / "preprocessor_config.json", vit.image_size)
    return Tower(vit, preprocess, _without(tower, _HUGGING_FACE_UNUSED), HUGGING_FACE)


def hugging_face_pixels(path: Path, image_size: int) -> PreprocessConfig:
    """A CLIP preprocessor_config.json as ours; without a file, CLIP's own preprocessing at the tower's size."""
    if not path.is_file():
        return replace(CLIP_PIXELS, size=image_size)
    values = read_json(path)
    config = ForeignConfig(path, values)
    config.require("do_resize", True, default=True)
    config.require("do_center_crop", True, default=True)
    config.require("do_normalize", True, default=True)
    config.require("resample", 2, 3, default=3)
    config.require("do_rescale", True, default=True)
    if abs(config.number("rescale_factor", default=1 / 255) - 1 / 255) > 1e-6:
        config.require("rescale_factor", 1 / 255)
    config.known("size", "crop_size", "do_convert_rgb", "image_mean", "image_std", *_BOOKKEEPING)
    size, crop = values.get("size", image_size), values.get("crop_size", image_size)
    short_edge = size.get("shortest_edge", size.get("height")) if isinstance(size, dict) else size
    side = crop.get("height") if isinstance(crop, dict) else crop
    if short_edge != image_size or side != image_size:
        raise CheckpointError(f"{path}: resizes to {short_edge} and crops to {side}, the tower expects {image_size}.")
    config.done()
    return replace(
        CLIP_PIXELS,
        size=image_size,
        resample="bilinear" if config.get("resample", default=3) == 2 else "bicubic",
        mean=_three(config.get("image_mean", default=CLIP_PIXELS.mean)),
        std=_three(config.get("image_std", default=CLIP_PIXELS.std)),
    )


# ----------------------------------------------------------------------------------------------------------- open_clip


def _open_clip(folder: Path, path: Path) -> Tower:
    weights = folder_weights(folder, OPEN_CLIP_FILES + HUGGING_FACE_FILES)
    vit, preprocess = _open_clip_config(path)
    return Tower(vit, preprocess, _visual(weights), OPEN_CLIP)


def _open_clip_config(path: Path) -> tuple[ViTConfig, PreprocessConfig]:
    values = read_json(path)
    model: Mapping[str, Any] = values.get("model_cfg", values)
    vision = ForeignConfig(path, model.get("vision_cfg", {}))
    width, head_width = vision.whole("width"), vision.whole("head_width", default=64)
    if not isinstance(vision.get("layers"), int) or vision.get("timm_model_name"):
        raise CheckpointError(f"{path}: vision_cfg does not describe open_clip's own vision transformer.")
    for name in ("ls_init_value", "attentional_pool", "no_ln_pre", "pos_embed_type"):
        vision.require(name, None, False, "learnable")
    activation, norm_eps = _open_clip_options(vision, quick=bool(model.get("quick_gelu")))
    vision.known("timm_model_name", *_AFTER_THE_PATCHES)
    vit = ViTConfig(
        image_size=vision.whole("image_size"),
        patch=vision.whole("patch_size"),
        width=width,
        layers=vision.layers("layers"),
        heads=width // head_width,
        ff_width=int(width * vision.number("mlp_ratio", default=4.0)),
        activation=activation,
        norm_eps=norm_eps,
    )
    vision.refuse_unknown("vision_cfg")
    pixels = vision.inner(values.get("preprocess_cfg", {}))
    preprocess = _open_clip_pixels(pixels, vit.image_size)
    vision.done()
    return vit, preprocess


def _open_clip_options(vision: ForeignConfig, quick: bool) -> tuple[Activation, float]:
    """Activation and epsilon of the norms, which open_clip passes to PyTorch's modules unchanged."""
    act, norm = (vision.get(name, default={}) for name in ("act_kwargs", "norm_kwargs"))
    activation: Activation = "quick_gelu" if quick else "gelu"
    if act == {"approximate": "tanh"} and not quick:
        activation = "gelu_tanh"
    elif act not in ({}, {"approximate": "none"}):
        vision.problems.append(Problem(f"{act!r} is not supported.", key="vision_cfg.act_kwargs"))
    options = vision.inner(norm)
    eps = options.number("eps", default=1e-5)
    options.refuse_unknown("vision_cfg.norm_kwargs")
    return activation, eps


def _open_clip_pixels(pixels: ForeignConfig, image_size: int) -> PreprocessConfig:
    pixels.require("mode", "RGB", default="RGB")
    pixels.require("interpolation", "bicubic", "bilinear", default="bicubic")
    pixels.require("resize_mode", "shortest", "squash", default="shortest")
    size = pixels.get("size", default=image_size)
    if size not in (image_size, [image_size, image_size], [3, image_size, image_size]):
        what = f"{size}, the tower expects {image_size}."
        pixels.problems.append(Problem(what, key="preprocess_cfg.size"))
    mean, std = pixels.get("mean", default=CLIP_PIXELS.mean), pixels.get("std", default=CLIP_PIXELS.std)
    return replace(
        CLIP_PIXELS,
        size=image_size,
        fit="squash" if pixels.get("resize_mode") == "squash" else CLIP_PIXELS.fit,
        resample="bilinear" if pixels.get("interpolation") == "bilinear" else "bicubic",
        mean=_three(mean),
        std=_three(std),
    )


def _plain(path: Path, vision_config: str | None) -> Tower:
    names = ", ".join(VITS)
    if vision_config is None:
        raise CheckpointError(
            f"{path}: a state dict does not say how many heads its tower has.",
            fix=f"Give --vision-config: one of {names}, or an open_clip model_config.json.",
        )
    weights = file_weights(path)
    if vision_config.endswith(".json"):
        vit, preprocess = _open_clip_config(Path(vision_config))
        return Tower(vit, preprocess, _visual(weights), OPEN_CLIP)
    name, _, suffix = (
        vision_config.partition("-quickgelu") if "-quickgelu" in vision_config else _cut_gelu(vision_config)
    )
    if name not in VITS:
        raise CheckpointError(
            f"--vision-config {vision_config}: unknown tower. {did_you_mean(name, VITS)} Known: {names}."
        )
    vit = VITS[name]
    notes: tuple[str, ...] = ()
    openai = any(mark in weights for mark in _OPENAI_MARKS) or _visual_dtype(weights) == torch.float16
    if suffix == "gelu":
        vit = replace(vit, activation="gelu")
    elif "-quickgelu" in vision_config or openai:
        vit = replace(vit, activation="quick_gelu")
    elif vit.activation == "quick_gelu":
        notes = (
            f"{path.name} does not state its activation; quick GELU is used, as in OpenAI's "
            f"weights (which OpenFlamingo uses). For LAION's weights give --vision-config {name}-gelu.",
        )
    return Tower(vit, replace(CLIP_PIXELS, size=vit.image_size), _visual(weights), OPEN_CLIP, notes)


def _cut_gelu(name: str) -> tuple[str, str, str]:
    return (name.removesuffix("-gelu"), "-", "gelu") if name.endswith("-gelu") else (name, "", "")


def _visual(weights: Weights) -> dict[str, ForeignTensor]:
    """The vision half of a state dict; its names may begin with `visual.`."""
    if visual := without_prefix(weights, "visual."):
        return _without(visual, OPEN_CLIP_UNUSED)
    return _without(dict(weights), (*OPEN_CLIP_UNUSED, *_OPENAI_MARKS))


def _visual_dtype(weights: Weights) -> torch.dtype | None:
    return next((w.dtype for name, w in weights.items() if name.endswith("conv1.weight")), None)


def _without(weights: dict[str, ForeignTensor], names: tuple[str, ...]) -> dict[str, ForeignTensor]:
    return {name: foreign for name, foreign in weights.items() if name not in names}


def _three(values: Any) -> tuple[float, ...]:
    return tuple(float(v) for v in values)
