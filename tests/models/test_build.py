"""`build`: any frozen encoder and any frozen language model, and text that is the language model's own, bit for bit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch.testing import assert_close
from typer.testing import CliRunner

from flamingo_eval import DecodeSpec, Prompt
from flamingo_eval.api import Model, load_flamingo_model
from flamingo_eval.cli import app
from flamingo_eval.errors import CheckpointError, UsageError
from flamingo_eval.models.checkpoint_files import CONFIG
from flamingo_eval.models.config_json import read_config
from flamingo_eval.models.convert.added_tokens import Vocabulary
from flamingo_eval.models.convert.build import BridgeOptions, build
from flamingo_eval.records import END_OF_CHUNK
from tests.support.language_families import FAMILIES, L, random_model
from tests.support.openflamingo_files import write_vision
from tests.support.small_flamingo import byte_tokenizer, picture, save_small

transformers = pytest.importorskip("transformers")

TEXT = "The quick brown fox, twice: \tfox!"
SMALL = BridgeOptions(every=2, latents=3, resampler_layers=1)


def write_parts(folder: Path, model: Any) -> dict[str, Any]:
    """A language model with its tokenizer, and a CLIP tower of one layer."""
    model.save_pretrained(folder / "lm")
    byte_tokenizer("</s>").save(str(folder / "lm" / "tokenizer.json"))
    (folder / "lm" / "tokenizer_config.json").write_text(json.dumps({"eos_token": "</s>"}))
    write_vision(folder / "vision", torch.Generator().manual_seed(0))
    return {"vision": folder / "vision", "language_model": folder / "lm", "out": folder / "out"}


def alone(ours: Model, prompt: Prompt) -> torch.Tensor:
    """Logits of the frozen language model without any of the new parts."""
    with torch.inference_mode():
        logits: torch.Tensor = ours.flamingo.decoder(torch.tensor([ours.encode(prompt).ids]))[0]
    return logits


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_at_zero_gates_the_text_is_the_language_models_bit_for_bit(tmp_path: Path, name: str) -> None:
    model = random_model(name, 300)
    config, notes = build(**write_parts(tmp_path, model), options=SMALL)
    assert notes == ()
    assert config.xattn_blocks == tuple(range(0, config.decoder.layers, 2))
    ours = load_flamingo_model(tmp_path / "out")
    plain, seeing = Prompt([TEXT]), Prompt([picture(0, size=8), TEXT, picture(1, size=8), "and"])
    for prompt in (plain, seeing):
        assert torch.equal(ours.logits(prompt), alone(ours, prompt))
    with torch.inference_mode():
        for prompt in (plain, seeing):  # the new tokens take rows of the model's own padding
            theirs = model(torch.tensor([ours.encode(prompt).ids])).logits[0]
            assert theirs.std() > 0.05
            assert_close(ours.logits(prompt), theirs, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["gptj", "opt", "llama"])
def test_rows_of_new_tokens_are_the_mean_of_the_others(tmp_path: Path, name: str) -> None:
    model = random_model(name, 257)  # a row for each token of its own, and none to spare
    config, _ = build(**write_parts(tmp_path, model), options=SMALL)
    assert (config.decoder.vocabulary, config.decoder.head_rows, config.tokens.trained_from) == (259, None, 257)
    assert config.tokens.stop == ("<|endofchunk|>", "</s>")
    ours = load_flamingo_model(tmp_path / "out")
    prompt = Prompt([picture(0, size=8), TEXT, END_OF_CHUNK, "and"])
    assert torch.equal(ours.logits(prompt), alone(ours, prompt))
    weight = ours.flamingo.decoder.embedding.weight
    assert_close(weight[257:], weight[:257].mean(dim=0).expand(2, -1))
    with torch.inference_mode():
        theirs = model(torch.tensor([ours.encode(Prompt([TEXT])).ids])).logits[0]
    assert_close(ours.logits(Prompt([TEXT]))[:, :257], theirs, atol=2e-5, rtol=1e-4)


def test_rows_that_stay_frozen_are_never_generated(tmp_path: Path) -> None:
    model = random_model("llama", 257)
    options = BridgeOptions(every=1, latents=3, resampler_layers=1, new_rows="frozen")
    config, _ = build(**write_parts(tmp_path, model), options=options)
    assert (config.decoder.vocabulary, config.decoder.head_rows, config.tokens.trained_from) == (258, 257, None)
    assert (config.tokens.end_of_chunk, config.tokens.stop) == ("</s>", ("</s>",))
    ours = load_flamingo_model(tmp_path / "out")
    assert (ours.logits(Prompt([picture(0, size=8), TEXT]))[:, 257:] == -torch.inf).all()
    assert len(ours.generate([Prompt([TEXT])], DecodeSpec(beams=2, max_new_tokens=3))) == 1


@pytest.mark.parametrize(
    ("base", "tokens", "rows", "trained", "frozen"),
    [
        (50_432, 50_279, 50_432, None, None),  # GPT-NeoX: room in its own padding
        (49_152, 49_154, 49_280, 49_154, 49_152),  # SmolLM2: padded to 128
        (50_272, 50_274, 50_304, 50_274, 50_272),  # OPT: padded to 32
        (50_257, 50_259, 50_259, None, 50_257),  # GPT-2: not padded
    ],
)
def test_vocabularies_are_padded_as_their_family_does(
    base: int, tokens: int, rows: int, trained: int | None, frozen: int | None
) -> None:
    vocabulary = Vocabulary.of(base, tokens)
    assert vocabulary.rows == rows
    assert (vocabulary.head_rows("trained"), vocabulary.head_rows("frozen")) == (trained, frozen)


@pytest.mark.slow
@pytest.mark.parametrize("whole", [True, False], ids=["SiglipModel", "SiglipVisionModel"])
def test_siglip_equals_transformers(tmp_path: Path, whole: bool) -> None:
    parts = write_parts(tmp_path, random_model("llama", 300))
    config = transformers.SiglipVisionConfig(
        hidden_size=24, intermediate_size=40, num_hidden_layers=3, num_attention_heads=3, image_size=20, patch_size=5
    )
    if whole:
        text = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
        both = transformers.SiglipConfig(text_config={**text, "vocab_size": 9}, vision_config=config.to_dict())
        model = transformers.SiglipModel(both)
    else:
        model = transformers.SiglipVisionModel(config)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    model.eval().save_pretrained(tmp_path / "siglip")
    built, _ = build(**{**parts, "vision": tmp_path / "siglip"}, options=SMALL)
    assert (built.preprocess.fit, built.preprocess.size, built.preprocess.mean) == ("squash", 20, (0.5, 0.5, 0.5))
    assert built.visual_tokens == 3
    x = torch.randn(2, 3, 20, 20, generator=generator)
    vision = model.vision_model if whole else model
    with torch.inference_mode():
        ours = load_flamingo_model(tmp_path / "out").flamingo.vision(x)
        assert_close(ours, vision(pixel_values=x).last_hidden_state, atol=1e-5, rtol=1e-5)


def test_the_nfnet_of_a_checkpoint_folder(tmp_path: Path) -> None:
    parts = write_parts(tmp_path, random_model("gpt2", 300))
    save_small(tmp_path / "small")
    config, _ = build(**{**parts, "vision": tmp_path / "small"}, options=SMALL)
    assert config.vision.kind == "nfnet"
    source, built = (load_flamingo_model(tmp_path / name) for name in ("small", "out"))
    for name, tensor in source.flamingo.vision.state_dict().items():
        assert torch.equal(tensor, built.flamingo.vision.state_dict()[name])
    prompt = Prompt([picture(0), TEXT])
    assert torch.equal(built.logits(prompt), alone(built, prompt))
    assert built.visual_tokens(picture(0)).std() > 0.1


def test_the_same_seed_gives_the_same_bytes_and_another_one_does_not(tmp_path: Path) -> None:
    parts = write_parts(tmp_path, random_model("llama", 300))
    weights = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        options = BridgeOptions(every=1, latents=3, resampler_layers=2, resampler_width=16, seed=seed)
        build(**{**parts, "out": tmp_path / name}, options=options)
        weights.append(load_file(tmp_path / name / "model.safetensors"))
    assert (tmp_path / "a" / "model.safetensors").read_bytes() == (tmp_path / "b" / "model.safetensors").read_bytes()
    drawn = [n for n in weights[0] if n.endswith((".latents", "queries.weight", "project.weight"))]
    assert len(drawn) >= 2 + L
    assert not any(torch.equal(weights[0][name], weights[2][name]) for name in drawn)
    first, second = (weights[0][f"xattn.{i}.attention.queries.weight"] for i in (0, 1))
    assert not torch.equal(first, second)
    assert not weights[0]["xattn.0.attention_gate"].any()


def test_where_gated_blocks_are_and_whether_they_keep_text(tmp_path: Path) -> None:
    parts = write_parts(tmp_path, random_model("llama", 300))
    options = BridgeOptions(every=2, latents=3, resampler_layers=1, placement="last", keep_text=True)
    config, _ = build(**parts, options=options)
    assert (config.xattn_blocks, config.xattn.keeps_text) == ((1,), True)
    assert read_config(tmp_path / "out" / CONFIG) == config
    first, _ = build(**{**parts, "out": tmp_path / "first"}, options=BridgeOptions(every=2, latents=3))
    assert (first.xattn_blocks, first.xattn.keeps_text) == ((0, 2), False)


def test_the_command_prints_each_part_beside_the_papers_share(tmp_path: Path) -> None:
    parts = write_parts(tmp_path, random_model("qwen3", 300))
    arguments = ["build", "--latents", "3", "--resampler-layers", "1"]
    for name, path in parts.items():
        arguments += [f"--{name.replace('_', '-')}", str(path)]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    for word in ("Flamingo-3B", "vision", "resampler", "xattn", "decoder", "before 3 of 3 blocks", "ready"):
        assert word in result.output
    card = (tmp_path / "out" / "README.md").read_text()
    assert "Built by flamingo-eval" in card
    assert str(tmp_path) not in card


def test_what_cannot_be_built(tmp_path: Path) -> None:
    parts = write_parts(tmp_path, random_model("llama", 300))
    with pytest.raises(UsageError, match=r"--cross-attention-every 9: the language model has 3 blocks"):
        build(**parts, options=BridgeOptions(every=9))
    (tmp_path / "clip").mkdir()
    (tmp_path / "clip" / "config.json").write_text('{"model_type": "clip_vision_model"}')
    with pytest.raises(CheckpointError, match="no language model family 'clip_vision_model'"):
        build(**{**parts, "language_model": tmp_path / "clip"}, options=SMALL)
    (tmp_path / "lm" / "tokenizer_config.json").unlink()
    with pytest.raises(CheckpointError, match="no eos_token"):
        build(**parts, options=BridgeOptions(new_rows="frozen"))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    with pytest.raises(UsageError, match="not empty"):
        build(**parts, options=SMALL)
