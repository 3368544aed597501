"""Random language models of transformers, one of every family that can be converted and of its variants."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.support.openflamingo_files import VOCABULARY

transformers = pytest.importorskip("transformers")

W, L = 32, 3  # width and layers

FAMILIES: dict[str, tuple[str, dict[str, Any], str]] = {
    "mpt": ("Mpt", {"d_model": W, "n_heads": 4, "n_layers": L, "max_seq_len": 64}, "transformer.blocks"),
    "mpt-6-heads": ("Mpt", {"d_model": 48, "n_heads": 6, "n_layers": L, "max_seq_len": 64}, "transformer.blocks"),
    "mpt-clipped": (
        "Mpt",
        {
            "d_model": W,
            "n_heads": 4,
            "n_layers": L,
            "attn_config": {"alibi": True, "clip_qkv": 0.3, "softmax_scale": 0.5},
        },
        "transformer.blocks",
    ),
    "neox": ("GPTNeoX", {"hidden_size": W, "intermediate_size": 64, "num_attention_heads": 4}, "gpt_neox.layers"),
    "neox-sequential": (
        "GPTNeoX",
        {
            "hidden_size": W,
            "intermediate_size": 64,
            "num_attention_heads": 4,
            "use_parallel_residual": False,
            "rope_parameters": {"rope_type": "default", "rope_theta": 500.0, "partial_rotary_factor": 1.0},
        },
        "gpt_neox.layers",
    ),
    "llama": ("Llama", {"hidden_size": W, "intermediate_size": 48, "num_attention_heads": 4}, "model.layers"),
    "llama-grouped": (
        "Llama",
        {
            "hidden_size": W,
            "intermediate_size": 48,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 12,
            "attention_bias": True,
            "mlp_bias": True,
            "rms_norm_eps": 1e-3,
            "tie_word_embeddings": True,
        },
        "model.layers",
    ),
    "smollm2": (
        "Llama",
        {
            "hidden_size": W,
            "intermediate_size": 48,
            "num_attention_heads": 4,
            "num_key_value_heads": 1,
            "tie_word_embeddings": True,
            "rope_parameters": {"rope_type": "default", "rope_theta": 100000.0},
        },
        "model.layers",
    ),
    "llama3": (
        "Llama",
        {
            "hidden_size": W,
            "intermediate_size": 48,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 16,
            "rope_parameters": {
                "rope_type": "llama3",
                "rope_theta": 500.0,
                "factor": 4.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 32,
            },
        },
        "model.layers",
    ),
    "llama-linear": (
        "Llama",
        {
            "hidden_size": W,
            "intermediate_size": 48,
            "num_attention_heads": 4,
            "rope_parameters": {"rope_type": "linear", "rope_theta": 500.0, "factor": 3.0},
        },
        "model.layers",
    ),
    "qwen2": (
        "Qwen2",
        {"hidden_size": W, "intermediate_size": 48, "num_attention_heads": 4, "num_key_value_heads": 2},
        "model.layers",
    ),
    "qwen3": (
        "Qwen3",
        {
            "hidden_size": W,
            "intermediate_size": 48,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 12,
            "tie_word_embeddings": True,
        },
        "model.layers",
    ),
    "opt": (
        "OPT",
        {"hidden_size": W, "ffn_dim": 64, "num_attention_heads": 4, "word_embed_proj_dim": W},
        "model.decoder.layers",
    ),
    "gpt2": ("GPT2", {"n_embd": W, "n_head": 4, "n_layer": L, "n_positions": 64}, "transformer.h"),
    "gptj": ("GPTJ", {"n_embd": W, "n_head": 4, "n_layer": L, "n_positions": 64, "rotary_dim": 4}, "transformer.h"),
}


def random_model(name: str, vocabulary: int = VOCABULARY - 2) -> Any:
    kind, options, _ = FAMILIES[name]
    layers = {} if kind in ("Mpt", "GPT2", "GPTJ") else {"num_hidden_layers": L, "max_position_embeddings": 64}
    special = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 1}
    config = getattr(transformers, f"{kind}Config")(vocab_size=vocabulary, **options, **layers, **special)
    suffix = "LMHeadModel" if kind == "GPT2" else "ForCausalLM"
    model = getattr(transformers, kind + suffix)(config).eval()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(0.2 * noise if parameter.ndim > 1 else parameter + 0.2 * noise)
    return model
