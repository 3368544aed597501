"""MPT-1B (`mosaic_gpt`), the language model of OpenFlamingo-3B: `qk_ln`, which transformers' port of MPT ignores."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.testing import assert_close

from flamingo_eval import Prompt
from flamingo_eval.api import load_flamingo_model
from flamingo_eval.errors import CheckpointError
from flamingo_eval.models.convert.openflamingo import convert_openflamingo
from tests.support.openflamingo_files import Files, write_files

transformers = pytest.importorskip("transformers")

TEXT = "A picture of nothing at all."
W = 32
OLD_NAMES = {
    "norm_1": "ln_1",
    "norm_2": "ln_2",
    "norm_f": "ln_f",
    "ffn.up_proj": "mlp.mlp_up",
    "ffn.down_proj": "mlp.mlp_down",
}


class NormalisedQK(nn.Module):
    """Wqkv followed by LayerNorms over all heads of queries and of keys, as MPT's own code has it."""

    def __init__(self, qkv: nn.Module, norms: dict[str, Tensor]) -> None:
        super().__init__()
        self.qkv, self.norms = qkv, norms

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        q = nn.functional.layer_norm(q, (W,), self.norms["q_ln.weight"])
        k = nn.functional.layer_norm(k, (W,), self.norms["k_ln.weight"])
        return torch.cat([q, k, v], dim=-1)


@pytest.fixture
def mpt(tmp_path: Path) -> tuple[Files, nn.Module]:
    config = transformers.MptConfig(d_model=W, n_heads=4, n_layers=2, max_seq_len=64, vocab_size=300)
    model = transformers.MptForCausalLM(config).eval()
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator) + (parameter.ndim == 1))
    files = write_files(tmp_path, model, "transformer.blocks", 2, W)
    path = files.language_model / "model.safetensors"
    weights = load_file(path)
    for i, block in enumerate(model.transformer.blocks):
        norms = {f"{n}_ln.weight": 1 + 0.5 * torch.randn(W, generator=generator) for n in "qk"}
        block.attn.Wqkv = NormalisedQK(block.attn.Wqkv, norms)
        weights |= {f"transformer.blocks.{i}.attn.{name}": tensor for name, tensor in norms.items()}
    save_file(weights, path)
    set_config(files, attn_config={"alibi": True, "alibi_bias_max": 8, "qk_ln": True})
    return files, model


def set_config(files: Files, remove: tuple[str, ...] = (), **values: Any) -> None:
    path = files.language_model / "config.json"
    config = {k: v for k, v in json.loads(path.read_text()).items() if k not in remove}
    path.write_text(json.dumps({**config, **values}))


def check(files: Files, model: nn.Module, out: Path) -> None:
    convert_openflamingo(**files.arguments(), out=out)
    ours = load_flamingo_model(out)
    assert ours.config.decoder.qk_norm
    ids = torch.tensor([ours.encode(Prompt([TEXT])).ids])
    with torch.inference_mode():
        assert_close(ours.logits(Prompt([TEXT])), model(ids).logits[0], atol=2e-5, rtol=1e-4)


def test_queries_and_keys_are_normalised(tmp_path: Path, mpt: tuple[Files, nn.Module]) -> None:
    check(*mpt, tmp_path / "out")


def test_names_and_settings_of_mpt_1b(tmp_path: Path, mpt: tuple[Files, nn.Module]) -> None:
    files, model = mpt
    path = files.language_model / "model.safetensors"

    def old(name: str) -> str:
        for new, before in OLD_NAMES.items():
            name = name.replace(f"{new}.", f"{before}.")
        return name

    renamed = {old(name): tensor for name, tensor in load_file(path).items()}
    path.unlink()
    torch.save(renamed, files.language_model / "pytorch_model.bin")  # as it is published
    set_config(
        files,
        remove=("attn_config", "expansion_ratio"),
        model_type="mosaic_gpt",
        alibi=True,
        alibi_bias_max=8,
        attn_qk_ln=True,
        attn_clip_qkv=None,
        mlp_ratio=4,
        no_bias=True,
    )
    check(files, model, tmp_path / "out")


def test_a_norm_that_is_promised_must_be_there(tmp_path: Path, mpt: tuple[Files, nn.Module]) -> None:
    files, _ = mpt
    path = files.language_model / "model.safetensors"
    save_file({k: v for k, v in load_file(path).items() if "q_ln" not in k}, path)
    with pytest.raises(Exception, match=r"the tensor blocks.0.attn.q_ln.weight of shape \[32\] is missing"):
        convert_openflamingo(**files.arguments(), out=tmp_path / "out")


def test_the_width_of_transformers_port_is_taken_whatever_the_ratio_says(
    tmp_path: Path, mpt: tuple[Files, nn.Module]
) -> None:
    files, model = mpt
    set_config(files, expansion_ratio=2)
    (note,) = convert_openflamingo(**files.arguments(), out=tmp_path / "out")
    assert "expansion_ratio says a feed-forward width of 64" in note
    assert "[128, 32]: 128 is used" in note
    ours = load_flamingo_model(tmp_path / "out")
    ids = torch.tensor([ours.encode(Prompt([TEXT])).ids])
    with torch.inference_mode():
        assert_close(ours.logits(Prompt([TEXT])), model(ids).logits[0], atol=2e-5, rtol=1e-4)


ALIBI = {"alibi": True, "alibi_bias_max": 8, "qk_ln": True}


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("ffn_config.ffn_act_fn", {"ffn_config": {"ffn_type": "mptmlp", "ffn_act_fn": {"name": "mish"}}}),
        ("ffn_config.some_limit", {"ffn_config": {"some_limit": 7.0}}),
        ("ffn_type", {"ffn_config": {"ffn_type": "mptglu"}}),
        ("attn_config.sliding_window_size", {"attn_config": {**ALIBI, "sliding_window_size": 16}}),
        ("attn_config.rope", {"attn_config": {**ALIBI, "rope": True, "rope_theta": 10000}}),
        ("attn_config.attn_logit_softcapping", {"attn_config": {**ALIBI, "attn_logit_softcapping": 30.0}}),
        ("attn_config.something_new", {"attn_config": {**ALIBI, "something_new": "on"}}),
        ("final_logit_softcapping", {"final_logit_softcapping": 50.0}),
        ("embedding_fraction", {"embedding_fraction": 0.5}),
        ("learned_pos_emb", {"learned_pos_emb": False, "attn_config": {"alibi": False}}),
        ("block_overrides", {"block_overrides": {"order": [1]}}),
    ],
)
def test_options_that_show_in_no_tensor_are_refused_by_their_key(
    tmp_path: Path, mpt: tuple[Files, nn.Module], key: str, values: dict[str, Any]
) -> None:
    set_config(mpt[0], **values)
    with pytest.raises(CheckpointError) as caught:
        convert_openflamingo(**mpt[0].arguments(), out=tmp_path / "out")
    assert f"{key}: " in str(caught.value)
    assert "not supported" in str(caught.value)


def test_options_that_are_off_or_harmless_pass(tmp_path: Path, mpt: tuple[Files, nn.Module]) -> None:
    off = {"sliding_window_size": -1, "rope": False, "rope_theta": 10000, "rope_dail_config": {"type": "original"}}
    set_config(
        mpt[0],
        attn_config={**ALIBI, **off, "attn_logit_softcapping": None, "kv_n_heads": None},
        ffn_config={"ffn_type": "mptmlp", "fc_type": "torch"},
        init_config={"name": "kaiming_normal_", "fan_mode": "fan_in"},
        tokenizer_name="x",
    )
    (note,) = convert_openflamingo(**mpt[0].arguments(), out=tmp_path / "out")
    assert note == "config.json: unknown options, ignored: tokenizer_name."


@pytest.mark.parametrize(("name", "ours"), [("silu", "silu"), ("relu", "relu"), ("gelu", "gelu")])
def test_activations_of_llm_foundry(tmp_path: Path, mpt: tuple[Files, nn.Module], name: str, ours: str) -> None:
    set_config(mpt[0], ffn_config={"ffn_act_fn": {"name": name}})
    convert_openflamingo(**mpt[0].arguments(), out=tmp_path / "out")
    assert load_flamingo_model(tmp_path / "out").config.decoder.activation == ours
