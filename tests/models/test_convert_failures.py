"""What is wrong with files that cannot be converted: each names the tensor or file, and what was expected."""

from __future__ import annotations

import errno
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from flamingo_eval.errors import CheckpointError, UsageError
from flamingo_eval.models.config_json import read_config
from flamingo_eval.models.convert import writer
from flamingo_eval.models.convert.openflamingo import convert_openflamingo

DATA = Path(__file__).parent.parent / "data" / "openflamingo" / "opt"


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Any]:
    shutil.copytree(DATA, tmp_path / "opt")
    folder = tmp_path / "opt"
    return {
        "checkpoint": folder / "checkpoint.pt",
        "language_model": folder / "lm",
        "vision": folder / "vision_hf",
        "tokenizer": folder / "tokenizer",
        "cross_attention_every": 1,
        "out": tmp_path / "out",
    }


def problem(files: dict[str, Any]) -> str:
    with pytest.raises(CheckpointError) as caught:
        convert_openflamingo(**files)
    assert not list(files["out"].parent.glob("*out*")), "something was left behind"
    return str(caught.value)


def change_state(files: dict[str, Any], change: Any) -> None:
    loaded = torch.load(files["checkpoint"], weights_only=True)
    change(loaded["model_state_dict"])
    torch.save(loaded, files["checkpoint"])


def test_a_truncated_checkpoint(files: dict[str, Any]) -> None:
    whole = files["checkpoint"].read_bytes()
    files["checkpoint"].write_bytes(whole[: len(whole) // 2])
    message = problem(files)
    assert "checkpoint.pt: truncated or damaged PyTorch file" in message
    assert "Copy or download the file again" in message


@pytest.mark.parametrize("size", [0, 10, 2000])
def test_checkpoints_cut_near_their_beginning(files: dict[str, Any], size: int) -> None:
    files["checkpoint"].write_bytes(files["checkpoint"].read_bytes()[:size])
    assert "checkpoint.pt: truncated or damaged" in problem(files)


def test_a_checkpoint_with_code_in_it(files: dict[str, Any]) -> None:
    torch.save({"model_state_dict": Path("x")}, files["checkpoint"])
    assert "Only tensors are read, never code" in problem(files)


def test_wrong_shapes_name_the_tensor_and_what_was_expected(files: dict[str, Any]) -> None:
    name = "module.lang_encoder.model.decoder.layers.2.gated_cross_attn_layer.attn.to_q.weight"

    def change(state: dict[str, torch.Tensor]) -> None:
        state[name] = state[name][:-12].clone()
        state["module.perceiver.layers.3.1.1.weight"] = torch.zeros(3, 16)

    change_state(files, change)
    message = problem(files)
    assert f"{name} [500, 32]: expected [512, 32]" in message
    assert "perceiver.layers.3.1.1.weight [3, 16]: expected [64, 16]" in message
    assert "2 problems" in message


def test_unknown_and_missing_tensors_are_all_named(files: dict[str, Any]) -> None:
    def change(state: dict[str, torch.Tensor]) -> None:
        state["module.perceiver.media_time_embs"] = torch.zeros(2, 16)
        state["module.head.weight"] = torch.zeros(2)
        del state["module.perceiver.norm.bias"]
        del state["module.lang_encoder.model.decoder.layers.1.gated_cross_attn_layer.ff_gate"]

    change_state(files, change)
    message = problem(files)
    assert "module.perceiver.media_time_embs [2, 16] that no part of the model uses" in message
    assert "module.head.weight" in message
    assert "the tensor norm.bias of shape [16] is missing" in message
    assert "the tensor 1.ff_gate of shape [1] is missing" in message
    assert "4 problems" in message


def test_a_total_mismatch(files: dict[str, Any]) -> None:
    torch.save({"a.weight": torch.zeros(2)}, files["checkpoint"])
    message = problem(files)
    assert "neither perceiver.* nor gated_cross_attn_layer" in message
    assert "a.weight" in message


def test_a_file_without_tensors(files: dict[str, Any]) -> None:
    torch.save({"epoch": 3}, files["checkpoint"])
    assert "expected a state dict, got keys epoch" in problem(files)


def test_the_wrong_interval_says_which_fits(files: dict[str, Any]) -> None:
    message = problem({**files, "cross_attention_every": 2})
    assert "before the language model's blocks [0, 1, 2, 3] (of 4)" in message
    assert "Give --cross-attention-every 1." in message


def test_an_unknown_language_model(files: dict[str, Any]) -> None:
    (files["language_model"] / "config.json").write_text(json.dumps({"model_type": "gpt_neo"}))
    message = problem(files)
    assert "no language model family 'gpt_neo'" in message
    assert "Did you mean 'gpt_neox'?" in message
    assert "opt" in message


def test_options_that_the_decoder_does_not_have(files: dict[str, Any]) -> None:
    path = files["language_model"] / "config.json"
    values = json.loads(path.read_text())
    path.write_text(
        json.dumps({**values, "do_layer_norm_before": False, "activation_function": "mish", "ffn_dim": "x"})
    )
    message = problem(files)
    assert "do_layer_norm_before: False is not supported" in message
    assert "activation 'mish'" in message
    assert "ffn_dim: expected an integer, got 'x'" in message


def test_widths_come_from_the_weights_and_a_contradiction_is_named(files: dict[str, Any]) -> None:
    plain = files["out"].with_name("plain")
    assert convert_openflamingo(**{**files, "out": plain}) == ()
    path = files["language_model"] / "config.json"
    changes = {"ffn_dim": 128, "hidden_size": 64, "max_position_embeddings": 9}
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes, "word_embed_proj_dim": 32}))
    notes = convert_openflamingo(**files)
    assert "ffn_dim says 128, but model.decoder.layers.0.fc1.weight of model.safetensors has shape" in notes[1]
    assert "[64, 32]: 64 is used" in notes[1]
    assert [note.split(": ")[1].split()[0] for note in notes] == ["hidden_size", "ffn_dim", "max_position_embeddings"]
    one, other = (read_config(out / "config.json") for out in (plain, files["out"]))
    assert one.decoder == other.decoder
    assert notes[0] in (files["out"] / "README.md").read_text()


def test_a_layer_of_another_width_than_the_first_is_a_problem_of_its_file(files: dict[str, Any]) -> None:
    path = files["language_model"] / "model.safetensors"
    weights = load_file(path)
    weights["model.decoder.layers.1.fc1.weight"] = torch.zeros(128, 32)
    save_file(weights, path)
    message = problem(files)
    assert message.startswith(f"{path}: 1 problem")
    assert "model.decoder.layers.1.fc1.weight [128, 32]: expected [64, 32]" in message


def test_problems_stand_under_the_files_they_are_in(files: dict[str, Any]) -> None:
    language, vision = files["language_model"] / "model.safetensors", files["vision"] / "model.safetensors"
    weights = load_file(language)
    del weights["model.decoder.layers.1.fc1.weight"]
    save_file(weights, language)
    weights = load_file(vision)
    weights["vision_model.more"] = torch.zeros(2)
    save_file(weights, vision)
    message = problem(files)
    assert message.startswith(f"{vision}, {language}: 2 problems")
    assert f"{language}: lm: the tensor layers.1.fc1.weight of shape [64, 32] is missing" in message
    assert f"{vision}: vision_hf has a tensor vision_model.more [2]" in message


# ------------------------------------------------------------------------------------------------- broken downloads

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 5368709120\n"


@pytest.mark.parametrize(
    "file", ["checkpoint.pt", "lm/model.safetensors", "vision_hf/config.json", "tokenizer/tokenizer.json"]
)
def test_files_that_were_never_fetched(files: dict[str, Any], file: str) -> None:
    path = files["checkpoint"].parent / file
    path.write_text(POINTER)
    message = problem(files)
    assert f"{path}: a Git LFS pointer, not the file itself. Get it with `git lfs pull`" in message
    assert "weights_only" not in message
    path.write_text("<!DOCTYPE html><html>Log in")
    assert f"{path}: a web page, not the file itself" in problem(files)


def test_code_in_a_checkpoint_is_never_advised(files: dict[str, Any]) -> None:
    torch.save({"model_state_dict": {"a": torch.zeros(1), "b": Path("x")}}, files["checkpoint"])
    message = problem(files)
    assert "it holds a pathlib" in message
    assert "weights_only" not in message


@pytest.mark.slow
@pytest.mark.parametrize(
    "packed",
    [
        {"model.decoder.layers.0.fc1.weight": torch.zeros(8, 1, dtype=torch.uint8)},
        {"model.decoder.layers.0.fc1.weight": torch.zeros(64, 32, dtype=torch.int8)},
        {"model.decoder.layers.0.fc1.weight": torch.zeros(64, 32).to(torch.float8_e4m3fn)},
        {"model.decoder.layers.0.fc1.qweight": torch.zeros(8, 32, dtype=torch.int32)},
        {"model.decoder.layers.0.fc1.weight_scale": torch.zeros(64)},
    ],
)
@pytest.mark.parametrize("in_config", [True, False])
def test_quantised_language_models_are_refused_in_one_sentence(
    files: dict[str, Any], packed: dict[str, torch.Tensor], in_config: bool
) -> None:
    path = files["language_model"] / "model.safetensors"
    save_file({**load_file(path), **packed}, path)
    config = files["language_model"] / "config.json"
    if in_config:
        config.write_text(json.dumps({**json.loads(config.read_text()), "quantization_config": {"quant_method": "x"}}))
    message = problem(files)
    assert message.startswith(f"{config if in_config else path}: quantised weights (")
    assert "the original model" in message
    assert len(message.splitlines()) == 2


@pytest.mark.slow
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("part", ["checkpoint", "language model"])
def test_weights_that_are_no_numbers_are_refused(files: dict[str, Any], part: str, value: float) -> None:
    if part == "checkpoint":
        name, path = "module.perceiver.norm.bias", files["checkpoint"]
        change_state(files, lambda state: state[name].__setitem__(3, value))
    else:
        name, path = "model.decoder.layers.1.self_attn.q_proj.weight", files["language_model"] / "model.safetensors"
        weights = load_file(path)
        weights[name][2, 5] = value
        save_file(weights, path)
    message = problem(files)
    assert message.startswith(f"{path}: 1 problem")
    assert name in message
    assert "weights are NaN or infinite" in message


@pytest.mark.slow
@pytest.mark.parametrize(
    "prefix", ["_orig_mod.", "module._fsdp_wrapped_module.", "module.module.", "_orig_mod.module."]
)
def test_prefixes_of_wrappers_are_taken_off(files: dict[str, Any], prefix: str) -> None:
    plain = files["out"].with_name("plain")
    convert_openflamingo(**{**files, "out": plain})
    state = torch.load(files["checkpoint"], weights_only=True)["model_state_dict"]
    wrapped = {
        prefix + n.removeprefix("module.").replace(".attn.", "._checkpoint_wrapped_module.attn."): t
        for n, t in state.items()
    }
    torch.save({"module": wrapped, "epoch": 3}, files["checkpoint"])  # DeepSpeed's key
    path = files["language_model"] / "model.safetensors"
    save_file({f"_orig_mod.{n}": t for n, t in load_file(path).items()}, path)
    convert_openflamingo(**files)
    assert (plain / "model.safetensors").read_bytes() == (files["out"] / "model.safetensors").read_bytes()


# ------------------------------------------------------------------------------------------------------- where it goes


def test_out_below_a_file(files: dict[str, Any]) -> None:
    (files["out"].parent / "file").write_text("x")
    out = files["out"].parent / "file" / "x"
    with pytest.raises(UsageError, match=r"file/x: cannot be written: Not a directory"):
        convert_openflamingo(**{**files, "out": out})


def test_out_is_the_folder_one_stands_in(files: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    files["out"].mkdir()
    monkeypatch.chdir(files["out"])
    convert_openflamingo(**{**files, "out": Path(".")})
    names = sorted(path.name for path in files["out"].iterdir())
    assert names == ["README.md", "config.json", "model.safetensors", "tokenizer.json"]
    assert read_config(files["out"] / "config.json").name == "out"


def test_a_full_disk_leaves_nothing_behind(files: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(writer, "write_config", full)
    with pytest.raises(UsageError, match=r"out: the disk is full"):
        convert_openflamingo(**files)
    assert not list(files["out"].parent.glob("*out*"))


def test_a_truncated_language_model(files: dict[str, Any]) -> None:
    path = files["language_model"] / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    assert "model.safetensors: truncated or damaged safetensors file" in problem(files)


def test_a_language_model_without_weights(files: dict[str, Any]) -> None:
    (files["language_model"] / "model.safetensors").unlink()
    assert "no weights. Looked for" in problem(files)


def test_a_missing_shard(files: dict[str, Any]) -> None:
    index = {"weight_map": {"model.decoder.embed_tokens.weight": "model-1.safetensors"}}
    (files["language_model"] / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "shard model-1.safetensors is missing" in problem(files)


def test_a_tokenizer_without_the_special_tokens(files: dict[str, Any]) -> None:
    message = problem({**files, "tokenizer": files["language_model"]})
    assert "tokenizer.json: 2 problems" in message
    assert "the special token '<|endofchunk|>' is missing" in message
    assert "the special token '<image>' is missing" in message


def test_a_tokenizer_larger_than_the_embeddings(files: dict[str, Any]) -> None:
    path = files["tokenizer"] / "tokenizer.json"
    values = json.loads(path.read_text())
    values["added_tokens"].append({**values["added_tokens"][-1], "id": 302, "content": "<more>"})
    path.write_text(json.dumps(values))
    assert "303 tokens, but the checkpoint's embeddings have 302 rows" in problem(files)


def test_a_folder_without_a_tokenizer(files: dict[str, Any]) -> None:
    assert "no tokenizer.json in it" in problem({**files, "tokenizer": files["vision"]})


def test_a_size_that_no_network_has_is_named(files: dict[str, Any]) -> None:
    path = files["vision"] / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "patch_size": 2**31}))
    assert "patch_size: expected an integer from 1 to 16777216, got 2147483648" in problem(files)


def test_another_vision_tower(files: dict[str, Any]) -> None:
    path = files["vision"] / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "hidden_size": 24}))
    message = problem(files)
    assert "perceiver.latents has shape [64, 16], expected [64, 24]" in message


def test_a_tower_of_another_depth(files: dict[str, Any]) -> None:
    path = files["vision"] / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "num_hidden_layers": 1}))
    assert "vision_model.encoder.layers.1.layer_norm1.bias [16] that no part of the model uses" in problem(files)


def test_a_folder_that_is_no_vision_tower(files: dict[str, Any]) -> None:
    assert "model_type 'opt' is not a CLIP vision model" in problem({**files, "vision": files["language_model"]})


def test_a_tied_head_that_differs(files: dict[str, Any]) -> None:
    def change(state: dict[str, torch.Tensor]) -> None:
        state["module.lang_encoder.lm_head.weight"] = state["module.lang_encoder.lm_head.weight"] + 1

    change_state(files, change)
    assert "lm_head.weight differs from" in problem(files)


def test_an_output_folder_that_exists(files: dict[str, Any]) -> None:
    files["out"].mkdir()
    (files["out"] / "mine.txt").write_text("keep")
    with pytest.raises(UsageError, match="exists and is not empty"):
        convert_openflamingo(**files)
    assert (files["out"] / "mine.txt").read_text() == "keep"


def test_weights_of_integers(files: dict[str, Any]) -> None:
    path = files["vision"] / "model.safetensors"
    weights = load_file(path)
    weights["vision_model.pre_layrnorm.weight"] = torch.ones(16, dtype=torch.int64)
    save_file(weights, path)
    assert "vision_model.pre_layrnorm.weight has dtype torch.int64" in problem(files)


def test_help_needs_no_torch() -> None:
    probe = "import sys, flamingo_eval.cli.convert; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", probe], check=False).returncode == 0
