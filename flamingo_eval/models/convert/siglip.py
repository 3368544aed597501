"""SigLIP vision towers (Zhai et al. 2023): Hugging Face folders of `SiglipVisionModel` or `SiglipModel`.

Its output is the patch tokens after the last norm (transformers' `last_hidden_state`); the pooling head is not used.
There is no class token, and no norm before the first block.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from flamingo_eval.errors import CheckpointError
from flamingo_eval.models.config import PreprocessConfig
from flamingo_eval.models.config_json import read_json
from flamingo_eval.models.convert.clip import HUGGING_FACE, Tower, hugging_face_vit
from flamingo_eval.models.convert.foreign_weights import HUGGING_FACE_FILES, folder_weights, without_prefix
from flamingo_eval.models.convert.hf_config import ForeignConfig
from flamingo_eval.models.convert.tensor_map import Table

MODEL_TYPES = ("siglip", "siglip_vision_model")
_WITHOUT = ("class_token", "norm_in")
TABLE: Table = {
    **{ours: theirs for ours, theirs in HUGGING_FACE.items() if ours not in _WITHOUT},
    "norm_out": "post_layernorm",
}
PIXELS = PreprocessConfig(size=224, fit="squash", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))


def read_siglip(folder: Path) -> Tower:
    """A SigLIP tower from a Hugging Face folder. Raises CheckpointError."""
    path = folder / "config.json"
    values = read_json(path)
    config = ForeignConfig(path, values.get("vision_config", {}) if values.get("model_type") == "siglip" else values)
    vit = replace(
        hugging_face_vit(config, patch=16, activation="gelu_pytorch_tanh", norm_eps=1e-6),
        has_class_token=False,
        patch_bias=True,
        norm_in=False,
        final_norm=True,
    )
    config.known("vision_use_head")
    config.done()
    weights = folder_weights(folder, HUGGING_FACE_FILES)
    tower = without_prefix(weights, "vision_model.") or dict(weights)
    encoder = {n: w for n, w in tower.items() if not n.startswith(("head.", "embeddings.position_ids"))}
    pixels = _pixels(folder / "preprocessor_config.json", vit.image_size)
    return Tower(vit, pixels, encoder, TABLE, tuple(config.notes))


def _pixels(path: Path, image_size: int) -> PreprocessConfig:
    """SiglipImageProcessor's settings as ours; without a file, SigLIP's own preprocessing at the tower's size."""
    if not path.is_file():
        return replace(PIXELS, size=image_size)
    config = ForeignConfig(path, read_json(path))
    for name in ("do_resize", "do_rescale", "do_normalize"):
        config.require(name, True, default=True)
    config.require("resample", 2, 3, default=3)
    config.require("do_center_crop", False, default=False)
    size = config.get("size", default={"height": image_size, "width": image_size})
    if size != {"height": image_size, "width": image_size}:
        raise CheckpointError(f"{path}: resizes to {size}, the tower expects {image_size}.")
    mean, std = (config.get(name, default=[0.5, 0.5, 0.5]) for name in ("image_mean", "image_std"))
    config.require("rescale_factor", 1 / 255, default=1 / 255)
    config.known("do_convert_rgb", "image_processor_type", "processor_class", "feature_extractor_type")
    config.done()
    return replace(
        PIXELS,
        size=image_size,
        resample="bilinear" if config.get("resample", default=3) == 2 else "bicubic",
        mean=tuple(float(v) for v in mean),
        std=tuple(float(v) for v in std),
    )
