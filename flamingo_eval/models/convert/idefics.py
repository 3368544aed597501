"""IDEFICS (HuggingFaceM4/idefics-9b, -80b) -> our checkpoint folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from flamingo_eval.errors import CheckpointError
from flamingo_eval.models.config import FlamingoConfig, PreprocessConfig, ResamplerConfig, TokenConfig, XattnConfig
from flamingo_eval.models.config_json import read_json
from flamingo_eval.models.convert.card import model_card
from flamingo_eval.models.convert.clip import HUGGING_FACE, hugging_face_vit
from flamingo_eval.models.convert.foreign_weights import (
    ForeignTensor,
    close_files,
    folder_weights,
    renamed,
    without_prefix,
)
from flamingo_eval.models.convert.hf_config import ForeignConfig
from flamingo_eval.models.convert.hf_tokenizer import read_vocabulary
from flamingo_eval.models.convert.language_models import FAMILIES
from flamingo_eval.models.convert.tensor_map import PlannedTensor, Table, TensorMap, expected_shapes, stack
from flamingo_eval.models.convert.writer import check_out, new_folder, write_checkpoint
from flamingo_eval.models.presets import IDEFICS_PIXELS, IDEFICS_TOKENS

PERCEIVER: Table = {
    "latents": "latents",
    "layers.{i}.attention.norm_features": "blocks.{i}.0.context_layer_norm",
    "layers.{i}.attention.norm_latents": "blocks.{i}.0.latents_layer_norm",
    "layers.{i}.attention.queries": "blocks.{i}.0.q_proj",
    "layers.{i}.attention.keys_values": stack("blocks.{i}.0.k_proj", "blocks.{i}.0.v_proj"),
    "layers.{i}.attention.query_norm": "blocks.{i}.0.q_layer_norm",
    "layers.{i}.attention.key_norm": "blocks.{i}.0.k_layer_norm",
    "layers.{i}.attention.out": "blocks.{i}.0.output_proj",
    "layers.{i}.norm_ff": "blocks.{i}.1.ln",
    "layers.{i}.ff.up": "blocks.{i}.1.fc",
    "layers.{i}.ff.down": "blocks.{i}.1.c_proj",
    "norm": "layer_norm",
}
GATED: Table = {
    "{i}.attention_gate": "{i}.alpha_cross_attn",
    "{i}.ff_gate": "{i}.alpha_dense",
    "{i}.norm": "{i}.input_layernorm",
    "{i}.attention.queries": "{i}.cross_attn.q_proj",
    "{i}.attention.keys_values": stack("{i}.cross_attn.k_proj", "{i}.cross_attn.v_proj"),
    "{i}.attention.query_norm": "{i}.cross_attn.q_layer_norm",
    "{i}.attention.key_norm": "{i}.cross_attn.k_layer_norm",
    "{i}.attention.out": "{i}.cross_attn.o_proj",
    "{i}.norm_ff": "{i}.post_attention_layernorm",
    "{i}.ff.up": "{i}.mlp.up_proj",
    "{i}.ff.gate": "{i}.mlp.gate_proj",
    "{i}.ff.down": "{i}.mlp.down_proj",
}
# Of IdeficsVisionConfig, where they differ from CLIP's
VISION_DEFAULTS: dict[str, Any] = {
    "patch_size": 14,
    "num_hidden_layers": 32,
    "num_attention_heads": 16,
    "intermediate_size": 5120,
    "hidden_act": "gelu",
}
_UNUSED_VISION = ("post_layernorm.weight", "post_layernorm.bias", "embeddings.position_ids")
# Keys of its config.json that matter only in training
_TRAINING = ("alpha_initializer", "alphas_initializer_range", "cross_layer_activation_function")
_END_OF_UTTERANCE = "<end_of_utterance>"


def convert_idefics(model: Path, out: Path, tokenizer: Path | None = None) -> tuple[str, ...]:
    """Write a checkpoint folder to `out`; returns notes for the user. Raises CheckpointError, UsageError."""
    check_out(out)
    path = model / "config.json"
    values = read_json(path)
    if values.get("model_type") != "idefics":
        raise CheckpointError(f"{path}: model_type '{values.get('model_type')}' is not 'idefics'.")
    weights = renamed(folder_weights(model), lambda name: name.removeprefix("model."))
    config, notes = _config(out.resolve().name, path, values, weights)
    fast, settings = read_vocabulary(tokenizer or model, (IDEFICS_TOKENS.image, IDEFICS_TOKENS.around_image))
    n_tokens = fast.get_vocab_size(with_added_tokens=True)
    if n_tokens > config.decoder.vocabulary:
        raise CheckpointError(f"{tokenizer or model}: {n_tokens} tokens, the model has {config.decoder.vocabulary}.")
    clean_up = settings.get("clean_up_tokenization_spaces") is True
    config = replace(config, tokens=_tokens(fast.token_to_id, clean_up), preprocess=_pixels(model, config))

    tensor_map = TensorMap(expected_shapes(config))
    vision = without_prefix(weights, "vision_model.")
    vision = {name: w for name, w in vision.items() if name not in _UNUSED_VISION}
    tensor_map.add("vision.", HUGGING_FACE, vision, f"{model.name}, vision_model")
    resampler = without_prefix(weights, "perceiver_resampler.")
    if config.resampler is None:
        tensor_map.leftover(resampler, (), model.name)
    else:
        tensor_map.add("resampler.", PERCEIVER, resampler, f"{model.name}, perceiver_resampler")
    every = config.xattn.every
    gated = {
        f"{int(number) * every}.{rest}": w  # ours have the number of the block they precede
        for number, _, rest in (n.partition(".") for n in without_prefix(weights, "gated_cross_attn_layers."))
        for w in (weights[f"gated_cross_attn_layers.{number}.{rest}"],)
    }
    flat = {name: _flat(w) if name.endswith(("alpha_cross_attn", "alpha_dense")) else w for name, w in gated.items()}
    tensor_map.add("xattn.", GATED, flat, f"{model.name}, gated_cross_attn_layers")
    _add_decoder(tensor_map, weights, config, model.name)
    plans = tensor_map.finish(str(model))
    sources = {"model": model} | ({"tokenizer": tokenizer} if tokenizer else {})
    card = model_card(config, "IDEFICS", "LLaMA", sources, notes)
    with new_folder(out) as folder:
        write_checkpoint(folder, config, plans, fast.to_str(), card)
    close_files()
    return notes


def _config(
    name: str, path: Path, values: Mapping[str, Any], weights: Mapping[str, ForeignTensor]
) -> tuple[FlamingoConfig, tuple[str, ...]]:
    foreign = ForeignConfig(path, values)
    vision_section = foreign.get("vision_config", default={})
    vision_values = {k: v for k, v in foreign.inner(vision_section).values.items() if v is not None}
    vision_config = foreign.inner(VISION_DEFAULTS | vision_values)
    vision = replace(hugging_face_vit(vision_config), class_token=True)
    decoder = FAMILIES["llama"].read(foreign, weights)
    additional = int(foreign.number("additional_vocab_size", default=0))
    foreign.require("alpha_type", "float", "vector", default="float")
    qk_norm = foreign.flag("qk_layer_norms", default=False)
    resampler = _resampler(foreign, vision.width)
    every = foreign.whole("cross_layer_interval", default=1)
    foreign.known(*_TRAINING, *(key for key in values if key.startswith("freeze_")))
    foreign.done()
    xattn = XattnConfig(
        every=every,
        heads=decoder.heads,
        head_dim=decoder.head_dim,
        ff_width=decoder.ff_width,
        activation=decoder.activation,
        gated_ff=True,
        norm="rmsnorm",
        norm_visual=False,
        qk_norm="rmsnorm" if qk_norm else None,
        gate="vector" if foreign.get("alpha_type", default="float") == "vector" else "scalar",
        norm_eps=decoder.norm_eps,
    )
    config = FlamingoConfig(
        name=name,
        vision=vision,
        preprocess=replace(IDEFICS_PIXELS, size=vision.image_size),
        resampler=resampler,
        xattn=xattn,
        decoder=replace(decoder, vocabulary=decoder.vocabulary + additional),
        tokens=IDEFICS_TOKENS,
    )
    return config, tuple(foreign.notes)


def _resampler(config: ForeignConfig, width: int) -> ResamplerConfig | None:
    perceiver = config.inner(config.get("perceiver_config", default={}))
    if not config.get("use_resampler", default=False):
        return None
    return ResamplerConfig(
        width=width,
        layers=perceiver.layers("resampler_depth", default=6),
        heads=perceiver.whole("resampler_n_heads", default=16),
        head_dim=perceiver.whole("resampler_head_dim", default=96),
        latents=perceiver.whole("resampler_n_latents", default=64),
        ff_width=4 * width,
        activation="relu",
        frames=0,
        project_input=False,
        qk_norm=perceiver.flag("qk_layer_norms_perceiver", default=False),
    )


def _tokens(token_to_id: Any, clean_up: bool) -> TokenConfig:
    """The instructed models end a turn with a special token, the base models with a new line."""
    stop = [t for t in (_END_OF_UTTERANCE, "</s>", "<0x0A>") if token_to_id(t) is not None]
    instructed = _END_OF_UTTERANCE in stop
    return replace(
        IDEFICS_TOKENS,
        end_of_chunk=_END_OF_UTTERANCE if instructed else "\n",
        stop=tuple(t for t in stop if not (instructed and t == "<0x0A>")),
        clean_up_spaces=clean_up,
    )


def _pixels(model: Path, config: FlamingoConfig) -> PreprocessConfig:
    path = model / "preprocessor_config.json"
    values = read_json(path) if path.is_file() else {}
    mean, std = values.get("image_mean", config.preprocess.mean), values.get("image_std", config.preprocess.std)
    size = values.get("image_size", config.preprocess.size)
    if size != config.preprocess.size:
        raise CheckpointError(f"{path}: image_size {size}, the vision tower expects {config.preprocess.size}.")
    return replace(config.preprocess, mean=tuple(map(float, mean)), std=tuple(map(float, std)))


def _add_decoder(
    tensor_map: TensorMap, weights: Mapping[str, ForeignTensor], config: FlamingoConfig, source: str
) -> None:
    """LLaMA, with embeddings and head in two pieces: LLaMA's own rows and the additional ones."""
    other_parts = ("vision_model.", "perceiver_resampler.", "gated_cross_attn_layers.")
    ignored = FAMILIES["llama"].ignore
    language = {n: w for n, w in weights.items() if not n.startswith(other_parts) and not n.endswith(ignored)}
    renames = [("embedding.weight", "embed_tokens.weight", "embed_tokens.additional_embedding.weight")]
    if not config.decoder.tied_head:
        renames.append(("head.weight", "lm_head.weight", "lm_head.additional_fc.weight"))
    else:
        language = {n: w for n, w in language.items() if not n.startswith("lm_head.")}
    for own_name, *names in renames:
        parts = [language.pop(name) for name in names if name in language]
        if not parts or parts[0].name.removeprefix("model.") != names[0]:
            tensor_map.missing(names[0], source, next(iter(weights.values())).file)
            continue
        tensor_map.set(f"decoder.{own_name}", _joined(parts), " and ".join(part.name for part in parts))
    tensor_map.add("decoder.", FAMILIES["llama"].table, language, source)


def _joined(parts: list[ForeignTensor]) -> PlannedTensor:
    shape = (sum(part.shape[0] for part in parts), *parts[0].shape[1:])
    dtype = parts[0].dtype
    return PlannedTensor(shape, dtype, lambda: torch.cat([part.read().to(dtype) for part in parts]), tuple(parts))


def _flat(foreign: ForeignTensor) -> ForeignTensor:
    """Gates are stored as [1, 1, D]."""
    return replace(foreign, shape=(torch.Size(foreign.shape).numel(),), read=lambda: foreign.read().flatten())
