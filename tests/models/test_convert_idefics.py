"""IDEFICS against transformers, on random weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from flamingo_eval import DecodeSpec, Pixels, Prompt
from flamingo_eval.api import Model, load_flamingo_model
from flamingo_eval.engine import reference
from flamingo_eval.errors import CheckpointError
from flamingo_eval.models.convert.idefics import convert_idefics
from tests.support.small_flamingo import byte_tokenizer

transformers = pytest.importorskip("transformers")

TOKENS = ("<s>", "</s>", "<fake_token_around_image>", "<image>")
VISION = {
    "embed_dim": 16, "image_size": 12, "patch_size": 4, "num_hidden_layers": 2, "num_attention_heads": 2,
    "intermediate_size": 24, "hidden_act": "gelu",
}  # fmt: skip
PERCEIVER = {
    "use_resampler": True, "resampler_n_latents": 5, "resampler_depth": 2, "resampler_n_heads": 2,
    "resampler_head_dim": 6, "qk_layer_norms_perceiver": True,
}  # fmt: skip
IDEFICS_9B: dict[str, Any] = {
    "use_resampler": True, "perceiver_config": PERCEIVER, "qk_layer_norms": True, "alpha_type": "vector",
    "cross_layer_interval": 2,
}  # fmt: skip


def write_model(folder: Path, tokens: tuple[str, ...] = TOKENS, **options: Any) -> Any:
    config = transformers.IdeficsConfig(
        vocab_size=256, additional_vocab_size=len(tokens), hidden_size=32, intermediate_size=48, num_hidden_layers=4,
        num_attention_heads=4, max_position_embeddings=64, vision_config=VISION, alpha_initializer="ones",
        pad_token_id=0, **options,
    )  # fmt: skip
    model = transformers.IdeficsForVisionText2Text(config).eval()
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(0.2 * noise if parameter.ndim > 1 else parameter + 0.2 * noise)
    model.save_pretrained(folder)
    byte_tokenizer(*tokens, begin="<s>").save(str(folder / "tokenizer.json"))
    return model


def their_logits(model: nn.Module, ids: tuple[int, ...], pictures: list[Tensor]) -> Tensor:
    """With the processor's image mask: each token sees the last picture at or before it."""
    tokens = torch.tensor([ids])
    last = (tokens == 256 + TOKENS.index("<image>")).cumsum(1)
    mask = nn.functional.one_hot(last, len(pictures) + 1)[:, :, 1:]
    with torch.inference_mode():
        out = model(
            tokens,
            attention_mask=torch.ones_like(tokens),
            pixel_values=torch.stack(pictures)[None],
            image_attention_mask=mask,
        )
    logits: Tensor = out.logits[0]
    return logits


@pytest.fixture
def prompt() -> tuple[Prompt, list[Tensor]]:
    generator = torch.Generator().manual_seed(9)
    pictures = [torch.randn(3, 12, 12, generator=generator) for _ in range(3)]
    a, b, c = (Pixels(p) for p in pictures)
    return Prompt(["User:", a, "Image: a cat\n", b, c, "Image:"]), pictures


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [IDEFICS_9B, {"cross_layer_interval": 1}, {**IDEFICS_9B, "alpha_type": "float", "qk_layer_norms": False}],
    ids=["as-9b", "without-resampler", "scalar-gates"],
)
def test_logits_equal_transformers(
    tmp_path: Path, prompt: tuple[Prompt, list[Tensor]], options: dict[str, Any]
) -> None:
    theirs = write_model(tmp_path / "hf", **options)
    assert convert_idefics(tmp_path / "hf", tmp_path / "out") == ()
    ours = load_flamingo_model(tmp_path / "out")
    ids = ours.encode(prompt[0]).ids
    expected = their_logits(theirs, ids, prompt[1])
    assert_close(ours.logits(prompt[0]), expected, atol=2e-5, rtol=1e-4)
    shuffled = their_logits(theirs, ids, prompt[1][::-1])
    assert (shuffled - expected).abs().max() > 1e-2  # the pictures matter


def test_greedy_generation_equals_transformers(tmp_path: Path, prompt: tuple[Prompt, list[Tensor]]) -> None:
    theirs = write_model(tmp_path / "hf", **IDEFICS_9B)
    convert_idefics(tmp_path / "hf", tmp_path / "out")
    ours = load_flamingo_model(tmp_path / "out")
    ids = list(ours.encode(prompt[0]).ids)
    new: list[int] = []
    for _ in range(6):
        new.append(int(their_logits(theirs, tuple(ids + new), prompt[1])[-1].argmax()))
        if new[-1] in ours.tokenizer.stop_ids:
            break
    assert reference.generate_ids(ours, prompt[0], DecodeSpec(beams=1, max_new_tokens=6)) == new


def text_of(model: Model, prompt: Prompt) -> str:
    text: str = model.tokenizer.fast.decode(list(model.encode(prompt).ids), skip_special_tokens=False)
    return text


def test_pictures_stand_between_their_marks(tmp_path: Path, prompt: tuple[Prompt, list[Tensor]]) -> None:
    write_model(tmp_path / "hf", **IDEFICS_9B)
    convert_idefics(tmp_path / "hf", tmp_path / "out")
    fake, image = "<fake_token_around_image>", "<image>"
    expected = f"<s>User:{fake}{image}{fake}Image: a cat\n{fake}{image}{fake}{image}{fake}Image:"
    assert text_of(load_flamingo_model(tmp_path / "out"), prompt[0]) == expected


def test_a_tokenizer_of_its_own_folder(tmp_path: Path) -> None:
    write_model(tmp_path / "hf", **IDEFICS_9B)
    (tmp_path / "tokenizer").mkdir()
    (tmp_path / "hf" / "tokenizer.json").rename(tmp_path / "tokenizer" / "tokenizer.json")
    with pytest.raises(CheckpointError, match=r"no tokenizer.json"):
        convert_idefics(tmp_path / "hf", tmp_path / "out")
    convert_idefics(tmp_path / "hf", tmp_path / "out", tokenizer=tmp_path / "tokenizer")
    model = load_flamingo_model(tmp_path / "out")
    assert model.end_of_chunk == "\n"
    assert "`tokenizer`" in (tmp_path / "out" / "README.md").read_text()


def test_instructed_models_end_with_their_own_token(tmp_path: Path) -> None:
    write_model(tmp_path / "hf", (*TOKENS, "<end_of_utterance>"), **IDEFICS_9B)
    convert_idefics(tmp_path / "hf", tmp_path / "out")
    model = load_flamingo_model(tmp_path / "out")
    assert model.end_of_chunk == "<end_of_utterance>"
    assert model.config.tokens.stop == ("<end_of_utterance>", "</s>")


def test_sharded_models(tmp_path: Path, prompt: tuple[Prompt, list[Tensor]]) -> None:
    theirs = write_model(tmp_path / "hf", **IDEFICS_9B)
    (tmp_path / "hf" / "model.safetensors").unlink()
    theirs.save_pretrained(tmp_path / "hf", max_shard_size="30KB")
    assert len(list((tmp_path / "hf").glob("*.safetensors"))) > 3
    convert_idefics(tmp_path / "hf", tmp_path / "out")
    ours = load_flamingo_model(tmp_path / "out")
    expected = their_logits(theirs, ours.encode(prompt[0]).ids, prompt[1])
    assert_close(ours.logits(prompt[0]), expected, atol=2e-5, rtol=1e-4)


def test_other_models_are_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "idefics2"}))
    with pytest.raises(CheckpointError, match="'idefics2' is not 'idefics'"):
        convert_idefics(tmp_path, tmp_path / "out")


def test_leftover_and_missing_tensors_are_named(tmp_path: Path) -> None:
    write_model(tmp_path / "hf", **IDEFICS_9B)
    path = tmp_path / "hf" / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, "qk_layer_norms": False, "num_hidden_layers": 3}))
    with pytest.raises(CheckpointError) as caught:
        convert_idefics(tmp_path / "hf", tmp_path / "out")
    assert "gated_cross_attn_layers.0.cross_attn.q_layer_norm.weight [8] that no part" in str(caught.value)
    assert "layers.3.input_layernorm.weight [32] that no part" in str(caught.value)
