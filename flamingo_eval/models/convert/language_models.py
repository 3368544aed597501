"""Language models of Hugging Face folders: for each family, its config.json as a DecoderConfig and its tensors' names.

Names are those of the ...ForCausalLM classes without the model's own prefix (`root`), which bare models lack.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flamingo_eval.errors import CheckpointError, Problem, did_you_mean
from flamingo_eval.models.config import DecoderConfig
from flamingo_eval.models.config_json import read_json
from flamingo_eval.models.convert.foreign_weights import Foreign, Weights, renamed
from flamingo_eval.models.convert.hf_config import ForeignConfig
from flamingo_eval.models.convert.tensor_map import Rule, Table, stack


@dataclass(frozen=True, slots=True)
class Family:
    """One kind of language model."""

    title: str
    roots: tuple[str, ...]  # prefixes of the tensors' names, by saving class
    table: Table
    read: Callable[[ForeignConfig, Weights], DecoderConfig]
    embedding: str
    head: str
    ignore: tuple[str, ...] = ()  # ends of names of buffers that hold no weights
    aliases: Mapping[str, str] = field(default_factory=dict)  # other releases' stems, and those of the table


def _mpt(config: ForeignConfig, weights: Weights) -> DecoderConfig:
    # MPT-1B ("mosaic_gpt") keeps attention's settings in the config itself, with a prefix
    attention: dict[str, Any] = config.get("attn_config", default={})
    flat = {k.removeprefix("attn_"): v for k, v in config.values.items() if k.startswith(("attn_", "alibi", "softmax"))}
    settings = {**flat, **attention}
    inner = config.inner(settings)
    width = config.whole("d_model")
    heads = config.heads(width, "n_heads")
    alibi = bool(settings.get("alibi", config.values.get("model_type") == "mpt"))
    kinds = {"multihead_attention": heads, "multiquery_attention": 1, "grouped_query_attention": None}
    kind = settings.get("attn_type", "multihead_attention")
    if not isinstance(kind, str) or kind not in kinds or settings.get("prefix_lm"):
        config.problems.append(Problem("this kind of attention is not supported.", key="attn_config"))
    config.require("norm_type", "layernorm", "low_precision_layernorm", default="layernorm")
    scale = config.get("logit_scale", default=1.0)
    return DecoderConfig(
        vocabulary=config.whole("vocab_size"),
        layers=config.layers("n_layers"),
        width=width,
        heads=heads,
        kv_heads=kinds.get(str(kind), heads) or inner.whole("kv_n_heads", default=heads),
        head_dim=width // heads,
        ff_width=int(config.number("expansion_ratio", "mlp_ratio", default=4) * width),
        context=config.whole("max_seq_len"),
        norm="layernorm",
        norm_eps=config.number("layer_norm_epsilon", default=1e-5),
        norm_bias="norm_f.bias" in weights,
        qkv_bias="blocks.0.attn.Wqkv.bias" in weights,
        out_bias="blocks.0.attn.out_proj.bias" in weights,
        ff_bias="blocks.0.ffn.up_proj.bias" in weights,
        tied_head=config.flag("tie_word_embeddings", default=True),
        logit_scale=width**-0.5 if scale == "inv_sqrt_d_model" else config.number("logit_scale", default=1.0),
        attention_scale=_maybe_number(inner, "softmax_scale"),
        qk_norm=bool(settings.get("qk_ln", False)),
        clip_qkv=_maybe_number(inner, "clip_qkv"),
        positions="alibi" if alibi else "learned",
        alibi_max=inner.number("alibi_bias_max", default=8.0),
    )


def _maybe_number(config: ForeignConfig, name: str) -> float | None:
    return None if config.get(name) is None else config.number(name, default=1.0)


def _neox(config: ForeignConfig, weights: Weights) -> DecoderConfig:
    width = config.whole("hidden_size")
    heads = config.heads(width, "num_attention_heads")
    base, fraction = config.rotary()
    attention_bias = "layers.0.attention.query_key_value.bias" in weights
    return DecoderConfig(
        vocabulary=config.whole("vocab_size"),
        layers=config.layers("num_hidden_layers"),
        width=width,
        heads=heads,
        kv_heads=heads,
        head_dim=width // heads,
        ff_width=config.whole("intermediate_size"),
        context=config.whole("max_position_embeddings"),
        activation=config.activation("hidden_act", "gelu"),
        norm="layernorm",
        norm_eps=config.number("layer_norm_eps", default=1e-5),
        norm_bias=True,
        parallel=config.flag("use_parallel_residual", default=True),
        qkv_bias=attention_bias,
        out_bias=attention_bias,
        ff_bias=True,
        tied_head=config.flag("tie_word_embeddings", default=False),
        positions="rotary",
        rotary_dim=int(width // heads * fraction),
        rotary_base=base,
    )


def _llama(config: ForeignConfig, weights: Weights) -> DecoderConfig:
    width, heads = config.whole("hidden_size"), config.whole("num_attention_heads")
    head_dim = config.whole("head_dim", default=width // heads)
    base, fraction = config.rotary()
    return DecoderConfig(
        vocabulary=config.whole("vocab_size"),
        layers=config.layers("num_hidden_layers"),
        width=width,
        heads=heads,
        kv_heads=config.whole("num_key_value_heads", default=heads),
        head_dim=head_dim,
        ff_width=config.whole("intermediate_size"),
        context=config.whole("max_position_embeddings", default=2048),
        activation=config.activation("hidden_act", "silu"),
        gated_ff=True,
        norm_eps=config.number("rms_norm_eps", default=1e-6),
        qkv_bias="layers.0.self_attn.q_proj.bias" in weights,
        out_bias="layers.0.self_attn.o_proj.bias" in weights,
        ff_bias="layers.0.mlp.up_proj.bias" in weights,
        tied_head=config.flag("tie_word_embeddings", default=False),
        positions="rotary",
        rotary_dim=int(head_dim * fraction),
        rotary_base=base,
    )


def _opt(config: ForeignConfig, weights: Weights) -> DecoderConfig:
    width = config.whole("hidden_size")
    heads = config.heads(width, "num_attention_heads")
    config.require("do_layer_norm_before", True, default=True)  # OPT-350m alone has False
    config.require("word_embed_proj_dim", width, default=width)
    config.require("layer_norm_elementwise_affine", True, default=True)
    bias = "layers.0.fc1.bias" in weights
    return DecoderConfig(
        vocabulary=config.whole("vocab_size"),
        layers=config.layers("num_hidden_layers"),
        width=width,
        heads=heads,
        kv_heads=heads,
        head_dim=width // heads,
        ff_width=config.whole("ffn_dim"),
        context=config.whole("max_position_embeddings"),
        activation=config.activation("activation_function", "relu"),
        norm="layernorm",
        norm_eps=1e-5,
        norm_bias=True,
        final_norm=not config.get("_remove_final_layer_norm", default=False),
        qkv_bias=bias,
        out_bias=bias,
        ff_bias=bias,
        tied_head=config.flag("tie_word_embeddings", default=True),
        positions="learned",
        position_offset=2,
    )


def _gpt2(config: ForeignConfig, _: Weights) -> DecoderConfig:
    width = config.whole("n_embd", "hidden_size")
    heads = config.heads(width, "n_head", "num_attention_heads")
    config.require("scale_attn_weights", True, default=True)
    config.require("scale_attn_by_inverse_layer_idx", False, default=False)
    config.require("add_cross_attention", False, default=False)
    return DecoderConfig(
        vocabulary=config.whole("vocab_size"),
        layers=config.layers("n_layer", "num_hidden_layers"),
        width=width,
        heads=heads,
        kv_heads=heads,
        head_dim=width // heads,
        ff_width=config.whole("n_inner", default=4 * width),
        context=config.whole("n_positions", "n_ctx"),
        activation=config.activation("activation_function", "gelu_new"),
        norm="layernorm",
        norm_eps=config.number("layer_norm_epsilon", default=1e-5),
        norm_bias=True,
        qkv_bias=True,
        out_bias=True,
        ff_bias=True,
        tied_head=config.flag("tie_word_embeddings", default=True),
        positions="learned",
    )


def _gptj(config: ForeignConfig, weights: Weights) -> DecoderConfig:
    width = config.whole("n_embd", "hidden_size")
    heads = config.heads(width, "n_head", "num_attention_heads")
    tied = config.flag("tie_word_embeddings", default=False)
    return DecoderConfig(
        vocabulary=config.whole("vocab_size"),
        layers=config.layers("n_layer", "num_hidden_layers"),
        width=width,
        heads=heads,
        kv_heads=heads,
        head_dim=width // heads,
        ff_width=config.whole("n_inner", default=4 * width),
        context=config.whole("n_positions", "max_position_embeddings"),
        activation=config.activation("activation_function", "gelu_new"),
        norm="layernorm",
        norm_eps=config.number("layer_norm_epsilon", default=1e-5),
        norm_bias=True,
        parallel=True,
        shared_norm=True,
        ff_bias=True,
        tied_head=tied,
        head_bias=not tied and "lm_head.bias" in weights,
        positions="rotary",
        rotary_dim=config.whole("rotary_dim", default=width // heads),
        rotary_pairs="neighbours",
    )


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
    _mpt,
    "wte",
    "lm_head",
    # MPT-1B's own code is older than MPT-7B's, whose names Hugging Face kept
    aliases={
        "ln_1": "norm_1",
        "ln_2": "norm_2",
        "ln_f": "norm_f",
        "mlp.mlp_up": "ffn.up_proj",
        "mlp.mlp_down": "ffn.down_proj",
    },
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
        _neox,
        "embed_in",
        "embed_out",
        ignore=(".rotary_emb.inv_freq", ".attention.bias", ".attention.masked_bias"),
        aliases={"lm_head": "embed_out"},  # transformers 5
    ),
    "llama": Family(
        "LLaMA",
        ("model.",),
        {
            "embedding": "embed_tokens",
            "blocks.{i}.norm1": "layers.{i}.input_layernorm",
            "blocks.{i}.attention.qkv": stack(*(f"layers.{{i}}.self_attn.{p}_proj" for p in "qkv")),
            "blocks.{i}.attention.out": "layers.{i}.self_attn.o_proj",
            "blocks.{i}.norm2": "layers.{i}.post_attention_layernorm",
            "blocks.{i}.ff.up": "layers.{i}.mlp.up_proj",
            "blocks.{i}.ff.gate": "layers.{i}.mlp.gate_proj",
            "blocks.{i}.ff.down": "layers.{i}.mlp.down_proj",
            "norm": "norm",
            "head": "lm_head",
        },
        _llama,
        "embed_tokens",
        "lm_head",
        ignore=(".rotary_emb.inv_freq",),
    ),
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
        _opt,
        "embed_tokens",
        "lm_head",
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
        _gpt2,
        "wte",
        "lm_head",
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
        _gptj,
        "wte",
        "lm_head",
        ignore=(".attn.bias", ".attn.masked_bias", ".attn.embed_positions"),
    ),
}


def family_of(folder: Path) -> tuple[Family, ForeignConfig]:
    """Which family a Hugging Face folder is of. Raises CheckpointError for an unknown one."""
    path = folder / "config.json"
    values = read_json(path)
    kind = values.get("model_type")
    if not isinstance(kind, str) or kind not in FAMILIES:
        fix = f"{did_you_mean(str(kind), FAMILIES)} Supported: {', '.join(FAMILIES)}.".strip()
        raise CheckpointError(f"{path}: no language model family '{kind}' (model_type).", fix=fix)
    return FAMILIES[str(kind)], ForeignConfig(path, values)


def language_names(family: Family, weights: Weights) -> dict[str, Foreign]:
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
