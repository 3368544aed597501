"""The config.json of each family of language models as a DecoderConfig; biases and norms show in the weights' names.

Names of tensors are those of language_models.py: without the model's own prefix.
"""

from __future__ import annotations

from flamingo_eval.errors import Problem
from flamingo_eval.models.config import Activation, DecoderConfig
from flamingo_eval.models.convert.foreign_weights import Weights
from flamingo_eval.models.convert.hf_config import ACTIVATIONS, ForeignConfig
from flamingo_eval.models.convert.widths import contradiction


def mpt(config: ForeignConfig, weights: Weights) -> DecoderConfig:
    """MPT and MPT-1B; the latter has its attention settings in the config itself, with a prefix."""
    inner = _mpt_attention(config)
    width = config.whole("d_model")
    heads = config.heads(width, "n_heads")
    alibi = bool(inner.get("alibi", default=config.values.get("model_type") == "mpt"))
    kinds = {"multihead_attention": heads, "multiquery_attention": 1, "grouped_query_attention": None}
    kind = inner.get("attn_type", default="multihead_attention")
    if not isinstance(kind, str) or kind not in kinds or inner.get("prefix_lm"):
        config.problems.append(Problem("this kind of attention is not supported.", key="attn_config"))
    config.require("norm_type", "layernorm", "low_precision_layernorm", default="layernorm")
    config.require("learned_pos_emb", True, default=True)
    config.require("embedding_fraction", 1, default=1)
    scale = config.get("logit_scale", default=1.0)
    qk_norm = bool(inner.get("qk_ln", default=False))
    attention_scale, clip_qkv = _maybe_number(inner, "softmax_scale"), _maybe_number(inner, "clip_qkv")
    alibi_max = inner.number("alibi_bias_max", default=8.0)
    inner.known("kv_n_heads", "prefix_lm", "fused_qkv")
    if not inner.values.get("rope"):
        inner.known("rope_theta", "rope_impl", "rope_dail_config", "rope_hf_config")
    kv_heads = kinds.get(str(kind), heads) or inner.whole("kv_n_heads", default=heads)
    inner.refuse_unknown("attn_config")
    return DecoderConfig(
        vocabulary=config.whole("vocab_size"),
        layers=config.layers("n_layers"),
        width=width,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=width // heads,
        ff_width=_mpt_ff_width(config, width, weights),
        context=config.whole("max_seq_len"),
        activation=_mpt_activation(config),
        norm="layernorm",
        norm_eps=config.number("layer_norm_epsilon", "norm_eps", default=1e-5),
        norm_bias="norm_f.bias" in weights,
        qkv_bias="blocks.0.attn.Wqkv.bias" in weights,
        out_bias="blocks.0.attn.out_proj.bias" in weights,
        ff_bias="blocks.0.ffn.up_proj.bias" in weights,
        tied_head=config.flag("tie_word_embeddings", default=True),
        logit_scale=width**-0.5 if scale == "inv_sqrt_d_model" else config.number("logit_scale", default=1.0),
        attention_scale=attention_scale,
        qk_norm=qk_norm,
        clip_qkv=clip_qkv,
        positions="alibi" if alibi else "learned",
        alibi_max=alibi_max,
    )


def _mpt_attention(config: ForeignConfig) -> ForeignConfig:
    """The attention settings, from either place."""
    prefixes = ("attn_", "alibi", "softmax")
    flat = {k.removeprefix("attn_"): v for k, v in config.values.items() if k.startswith(prefixes)}
    config.known(*(k for k in config.values if k.startswith(prefixes)))
    section = config.inner(config.get("attn_config", default={})).values
    settings = {key: value for key, value in flat.items() if key not in ("config", "impl", "pdrop")}
    return config.inner({**settings, **section})


def _mpt_activation(config: ForeignConfig) -> Activation:
    """llm-foundry's `ffn_act_fn`: the name of a function of PyTorch, with its arguments."""
    ffn = config.inner(config.get("ffn_config", default={}))
    ffn.require("ffn_type", "mptmlp", None, default="mptmlp")
    activation = ffn.get("ffn_act_fn", default={"name": "gelu"})
    ffn.known("fc_type", "ffn_hidden_size")
    ffn.refuse_unknown("ffn_config")
    if isinstance(activation, dict):
        name, options = activation.get("name"), {k: v for k, v in activation.items() if k != "name" and v != "none"}
        if isinstance(name, str) and name in ACTIVATIONS and not options:
            return ACTIVATIONS[name]
        if name == "gelu" and options == {"approximate": "tanh"}:
            return "gelu_tanh"
    fix = f"Supported: {', '.join(ACTIVATIONS)}."
    config.problems.append(
        Problem(f"activation {activation!r} is not supported.", key="ffn_config.ffn_act_fn", fix=fix)
    )
    return "gelu"


def _mpt_ff_width(config: ForeignConfig, width: int, weights: Weights) -> int:
    """The width in the weights: transformers' port makes it four times the model's, whatever `expansion_ratio` says."""
    ffn = config.inner(config.get("ffn_config", default={}))
    hidden = ffn.get("ffn_hidden_size")
    config_width = int(config.number("expansion_ratio", "mlp_ratio", default=4) * width) if hidden is None else hidden
    stored = weights.get("blocks.0.ffn.up_proj.weight")
    if stored is None:
        return int(config_width)
    if stored.shape[0] != config_width:
        key = "expansion_ratio" if hidden is None else "ffn_config.ffn_hidden_size"
        config.notes.append(
            contradiction(config, key, f"a feed-forward width of {config_width}", stored.shape[0], stored)
        )
    return stored.shape[0]


def _maybe_number(config: ForeignConfig, name: str) -> float | None:
    return None if config.get(name) is None else config.number(name, default=1.0)


def neox(config: ForeignConfig, weights: Weights) -> DecoderConfig:
    """GPT-NeoX, Pythia, RedPajama."""
    width = config.whole("hidden_size")
    heads = config.heads(width, "num_attention_heads")
    base, fraction, scaling = config.rotary()
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
        rotary_scaling=scaling,
    )


def llama(config: ForeignConfig, weights: Weights) -> DecoderConfig:
    """LLaMA 1 to 3, SmolLM2, and Qwen's variants of it."""
    width, heads = config.whole("hidden_size"), config.whole("num_attention_heads")
    head_dim, kv_heads = _llama_heads(config, weights, width, heads)
    base, fraction, scaling = config.rotary()
    config.require("use_sliding_window", False, default=False)
    if config.get("use_sliding_window", default=config.values.get("model_type") not in ("qwen2", "qwen3")) is False:
        config.known("sliding_window")  # a width that is not used
    layer_types = config.get("layer_types", default=[])
    if any(kind != "full_attention" for kind in layer_types):
        config.problems.append(Problem("only full_attention is supported.", key="layer_types"))
    return DecoderConfig(
        vocabulary=config.whole("vocab_size"),
        layers=config.layers("num_hidden_layers"),
        width=width,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        ff_width=config.whole("intermediate_size"),
        context=config.whole("max_position_embeddings", default=2048),
        activation=config.activation("hidden_act", "silu"),
        gated_ff=True,
        norm_eps=config.number("rms_norm_eps", default=1e-6),
        qkv_bias="layers.0.self_attn.q_proj.bias" in weights,
        head_norm="layers.0.self_attn.q_norm.weight" in weights,
        out_bias="layers.0.self_attn.o_proj.bias" in weights,
        ff_bias="layers.0.mlp.up_proj.bias" in weights,
        tied_head=config.flag("tie_word_embeddings", default=False),
        positions="rotary",
        rotary_dim=int(head_dim * fraction),
        rotary_base=base,
        rotary_scaling=scaling,
    )


def _llama_heads(config: ForeignConfig, weights: Weights, width: int, heads: int) -> tuple[int, int]:
    """Width of a head and number of key-value heads, from the shapes of the projections."""
    head_dim = config.whole("head_dim", default=max(width // heads, 1))
    kv_heads = config.whole("num_key_value_heads", default=heads)
    queries, keys = (weights.get(f"layers.0.self_attn.{name}_proj.weight") for name in "qk")
    if queries is not None and queries.shape[0] % heads == 0 and queries.shape[0] // heads != head_dim:
        config_head_dim, head_dim = head_dim, queries.shape[0] // heads
        if config.get("head_dim") is not None:
            config.notes.append(contradiction(config, "head_dim", str(config_head_dim), head_dim, queries))
    if keys is not None and keys.shape[0] and keys.shape[0] % head_dim == 0 and keys.shape[0] // head_dim != kv_heads:
        config_head_dim, kv_heads = kv_heads, keys.shape[0] // head_dim
        if config.get("num_key_value_heads") is not None:
            config.notes.append(contradiction(config, "num_key_value_heads", str(config_head_dim), kv_heads, keys))
    return head_dim, kv_heads


def opt(config: ForeignConfig, weights: Weights) -> DecoderConfig:
    """OPT."""
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


def gpt2(config: ForeignConfig, _: Weights) -> DecoderConfig:
    """GPT-2."""
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


def gptj(config: ForeignConfig, weights: Weights) -> DecoderConfig:
    """GPT-J."""
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
