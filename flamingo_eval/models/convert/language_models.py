"""Language models in Hugging Face folders: for each family, its tensors' names and the reader of its config.json.

Names are those of the ...ForCausalLM classes without the model's own prefix (`root`), which bare models do not have.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from flamingo_eval.errors import CheckpointError, did_you_mean
from flamingo_eval.models.config import DecoderConfig
from flamingo_eval.models.config_json import read_json
from flamingo_eval.models.convert.foreign_weights import (
    ForeignTensor,
    Weights,
    folder_weights,
    quantised_error,
    renamed,
)
from flamingo_eval.models.convert.hf_config import ForeignConfig
from flamingo_eval.models.convert.language_configs import gpt2, gptj, llama, mpt, neox, opt
from flamingo_eval.models.convert.tensor_map import Rule, Table, stack
from flamingo_eval.models.convert.widths import Width, take_widths


@dataclass(frozen=True, slots=True)
class Family:
    """One kind of language model."""

    title: str
    roots: tuple[str, ...]  # prefixes of the tensors' names, by saving class
    table: Table
    read: Callable[[ForeignConfig, Weights], DecoderConfig]
    embedding: str
    head: str
    widths: tuple[Width, ...]
    ignore: tuple[str, ...] = ()  # ends of names of buffers that hold no weights
    aliases: Mapping[str, str] = field(default_factory=dict)  # other releases' stems, and those of the table


_GPT2_BLOCK = {
    "embedding": "wte",
    "positions": "wpe",
    "norm": "ln_f",
    "head": "lm_head",
    "blocks.{i}.norm1": "h.{i}.ln_1",
    "blocks.{i}.norm2": "h.{i}.ln_2",
}

MPT = Family(
    "MPT",
    ("transformer.",),
    {
        "embedding": "wte",
        "positions": "wpe",
        "blocks.{i}.norm1": "blocks.{i}.norm_1",
        "blocks.{i}.attention.qkv": "blocks.{i}.attn.Wqkv",
        "blocks.{i}.attention.query_norm": "blocks.{i}.attn.q_ln",
        "blocks.{i}.attention.key_norm": "blocks.{i}.attn.k_ln",
        "blocks.{i}.attention.out": "blocks.{i}.attn.out_proj",
        "blocks.{i}.norm2": "blocks.{i}.norm_2",
        "blocks.{i}.ff.up": "blocks.{i}.ffn.up_proj",
        "blocks.{i}.ff.down": "blocks.{i}.ffn.down_proj",
        "norm": "norm_f",
        "head": "lm_head",
    },
    mpt,
    "wte",
    "lm_head",
    (Width(("d_model",), "wte.weight", 1), Width(("max_seq_len",), "wpe.weight", 0)),
    # MPT-1B's code is older than MPT-7B's; Hugging Face uses the names of the latter
    aliases={
        "ln_1": "norm_1",
        "ln_2": "norm_2",
        "ln_f": "norm_f",
        "mlp.mlp_up": "ffn.up_proj",
        "mlp.mlp_down": "ffn.down_proj",
    },
)


def _llama_like(title: str) -> Family:
    return Family(
        title,
        ("model.",),
        {
            "embedding": "embed_tokens",
            "blocks.{i}.norm1": "layers.{i}.input_layernorm",
            "blocks.{i}.attention.qkv": stack(*(f"layers.{{i}}.self_attn.{p}_proj" for p in "qkv")),
            "blocks.{i}.attention.query_norm": "layers.{i}.self_attn.q_norm",
            "blocks.{i}.attention.key_norm": "layers.{i}.self_attn.k_norm",
            "blocks.{i}.attention.out": "layers.{i}.self_attn.o_proj",
            "blocks.{i}.norm2": "layers.{i}.post_attention_layernorm",
            "blocks.{i}.ff.up": "layers.{i}.mlp.up_proj",
            "blocks.{i}.ff.gate": "layers.{i}.mlp.gate_proj",
            "blocks.{i}.ff.down": "layers.{i}.mlp.down_proj",
            "norm": "norm",
            "head": "lm_head",
        },
        llama,
        "embed_tokens",
        "lm_head",
        (
            Width(("hidden_size",), "embed_tokens.weight", 1),
            Width(("intermediate_size",), "layers.0.mlp.up_proj.weight", 0),
        ),
        ignore=(".rotary_emb.inv_freq",),
    )


FAMILIES: Mapping[str, Family] = {
    "mpt": MPT,
    "mosaic_gpt": MPT,
    "gpt_neox": Family(
        "GPT-NeoX (RedPajama, Pythia)",
        ("gpt_neox.",),
        {
            "embedding": "embed_in",
            "blocks.{i}.norm1": "layers.{i}.input_layernorm",
            "blocks.{i}.attention.qkv": Rule(("layers.{i}.attention.query_key_value",), "heads"),
            "blocks.{i}.attention.out": "layers.{i}.attention.dense",
            "blocks.{i}.norm2": "layers.{i}.post_attention_layernorm",
            "blocks.{i}.ff.up": "layers.{i}.mlp.dense_h_to_4h",
            "blocks.{i}.ff.down": "layers.{i}.mlp.dense_4h_to_h",
            "norm": "final_layer_norm",
            "head": "embed_out",
        },
        neox,
        "embed_in",
        "embed_out",
        (
            Width(("hidden_size",), "embed_in.weight", 1),
            Width(("intermediate_size",), "layers.0.mlp.dense_h_to_4h.weight", 0),
        ),
        ignore=(".rotary_emb.inv_freq", ".attention.bias", ".attention.masked_bias"),
        aliases={"lm_head": "embed_out"},  # transformers 5
    ),
    "llama": _llama_like("LLaMA (SmolLM2)"),
    "qwen2": _llama_like("Qwen2"),
    "qwen3": _llama_like("Qwen3"),
    "opt": Family(
        "OPT",
        ("model.decoder.", "decoder."),
        {
            "embedding": "embed_tokens",
            "positions": "embed_positions",
            "blocks.{i}.norm1": "layers.{i}.self_attn_layer_norm",
            "blocks.{i}.attention.qkv": stack(*(f"layers.{{i}}.self_attn.{p}_proj" for p in "qkv")),
            "blocks.{i}.attention.out": "layers.{i}.self_attn.out_proj",
            "blocks.{i}.norm2": "layers.{i}.final_layer_norm",
            "blocks.{i}.ff.up": "layers.{i}.fc1",
            "blocks.{i}.ff.down": "layers.{i}.fc2",
            "norm": "final_layer_norm",
            "head": "lm_head",
        },
        opt,
        "embed_tokens",
        "lm_head",
        (
            Width(("hidden_size",), "layers.0.fc1.weight", 1),
            Width(("ffn_dim",), "layers.0.fc1.weight", 0),
            Width(("max_position_embeddings",), "embed_positions.weight", 0, extra=2),
        ),
    ),
    "gpt2": Family(
        "GPT-2",
        ("transformer.",),
        {
            **_GPT2_BLOCK,
            "blocks.{i}.attention.qkv": Rule(("h.{i}.attn.c_attn",), "transpose"),
            "blocks.{i}.attention.out": Rule(("h.{i}.attn.c_proj",), "transpose"),
            "blocks.{i}.ff.up": Rule(("h.{i}.mlp.c_fc",), "transpose"),
            "blocks.{i}.ff.down": Rule(("h.{i}.mlp.c_proj",), "transpose"),
        },
        gpt2,
        "wte",
        "lm_head",
        (
            Width(("n_embd", "hidden_size"), "wte.weight", 1),
            Width(("n_inner",), "h.0.mlp.c_fc.weight", 1),
            Width(("n_positions", "n_ctx"), "wpe.weight", 0),
        ),
        ignore=(".attn.bias", ".attn.masked_bias"),
    ),
    "gptj": Family(
        "GPT-J",
        ("transformer.",),
        {
            **_GPT2_BLOCK,
            "blocks.{i}.attention.qkv": stack(*(f"h.{{i}}.attn.{p}_proj" for p in "qkv")),
            "blocks.{i}.attention.out": "h.{i}.attn.out_proj",
            "blocks.{i}.ff.up": "h.{i}.mlp.fc_in",
            "blocks.{i}.ff.down": "h.{i}.mlp.fc_out",
        },
        gptj,
        "wte",
        "lm_head",
        (Width(("n_embd", "hidden_size"), "wte.weight", 1), Width(("n_inner",), "h.0.mlp.fc_in.weight", 0)),
        ignore=(".attn.bias", ".attn.masked_bias", ".attn.embed_positions"),
    ),
}


def family_of(folder: Path) -> tuple[Family, ForeignConfig]:
    """The family of the model in a Hugging Face folder. Raises CheckpointError if it is unknown."""
    path = folder / "config.json"
    values = read_json(path)
    kind = values.get("model_type")
    if not isinstance(kind, str) or kind not in FAMILIES:
        fix = f"{did_you_mean(str(kind), FAMILIES)} Supported: {', '.join(FAMILIES)}.".strip()
        raise CheckpointError(f"{path}: no language model family '{kind}' (model_type).", fix=fix)
    if quantisation := values.get("quantization_config"):
        method = quantisation.get("quant_method", "") if isinstance(quantisation, dict) else ""
        raise quantised_error(path, f"quantization_config{f': {method}' if method else ''}")
    return FAMILIES[str(kind)], ForeignConfig(path, values)


def read_language_model(folder: Path) -> tuple[Family, DecoderConfig, dict[str, ForeignTensor], tuple[str, ...]]:
    """Family, shape and tensors of a Hugging Face folder, and notes for the user. Raises CheckpointError."""
    family, config = family_of(folder)
    weights = language_names(family, folder_weights(folder))
    config = take_widths(config, family.widths, weights)
    decoder = family.read(config, weights)
    config.done()
    return family, decoder, weights, tuple(config.notes)


def language_names(family: Family, weights: Weights) -> dict[str, ForeignTensor]:
    """A language model's tensors under the names of its family's table; buffers without weights are left out."""

    def rename(name: str) -> str | None:
        if name.endswith(family.ignore) and family.ignore:
            return None
        for root in family.roots:
            if name.startswith(root):
                name = name[len(root) :]
                break
        for other, ours in family.aliases.items():
            name = re.sub(rf"(^|\.){re.escape(other)}\.", rf"\1{ours}.", name)
        return name

    return renamed(weights, rename)
