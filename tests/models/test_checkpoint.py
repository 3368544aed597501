from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from flamingo_eval import Prompt
from flamingo_eval.api import load_flamingo_model
from flamingo_eval.errors import CheckpointError
from flamingo_eval.models.checkpoint import save_flamingo, write_index
from flamingo_eval.models.convert import writer
from flamingo_eval.models.convert.tensor_map import PlannedTensor
from tests.support.small_flamingo import SMALL, save_small


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save_small(tmp_path / "small")


def test_shards_hold_the_same_model(folder: Path) -> None:
    whole = load_flamingo_model(folder).logits(Prompt(["abc"]))
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    files = {name: f"model-{i % 2}.safetensors" for i, name in enumerate(weights)}
    for file in set(files.values()):
        save_file({name: t for name, t in weights.items() if files[name] == file}, folder / file)
    write_index(folder, files)
    sharded = load_flamingo_model(folder)
    assert torch.equal(sharded.logits(Prompt(["abc"])), whole)
    assert len(sharded.sha256) == 64
    (folder / "model-1.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"shard model-1.safetensors is missing"):
        load_flamingo_model(folder)


def test_every_tensor_is_accounted_for(folder: Path) -> None:
    path = folder / "model.safetensors"
    weights = load_file(path)
    weights["decoder.blocks.0.attention.qkv.wieght"] = weights.pop("decoder.blocks.0.attention.qkv.weight")
    weights["resampler.latents"] = torch.zeros(2, 24)
    save_file(weights, path)
    with pytest.raises(CheckpointError) as caught:
        load_flamingo_model(folder)
    message = str(caught.value)
    assert "3 problems" in message
    assert "decoder.blocks.0.attention.qkv.weight: missing, expected [96, 32]." in message
    assert "unknown tensor [96, 32]. Did you mean 'decoder.blocks.0.attention.qkv.weight'?" in message
    assert "resampler.latents: has shape [2, 24], expected [3, 24]." in message


def test_a_cut_file_is_named(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(CheckpointError, match=r"model.safetensors: truncated or damaged safetensors file"):
        load_flamingo_model(folder)


@pytest.mark.parametrize("file", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_missing_file_is_named(folder: Path, file: str) -> None:
    (folder / file).unlink()
    with pytest.raises(CheckpointError, match=f"{file}: there is no such file"):
        load_flamingo_model(folder)


def test_saving_checks_the_weights_too(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="missing"):
        save_flamingo(tmp_path / "out", SMALL, {}, "{}", "")
    assert not (tmp_path / "out").exists()


def test_the_streaming_writer_writes_safetensors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tensors = {
        "a": torch.randn(3, 4),
        "b": torch.randn(5).to(torch.bfloat16),
        "c": torch.randn(2, 6).half().T,
        "d": torch.tensor(1.5),
    }
    plans = {name: PlannedTensor(tuple(t.shape), t.dtype, t.clone) for name, t in tensors.items()}
    writer.write_safetensors(tmp_path / "x.safetensors", plans)
    read = load_file(tmp_path / "x.safetensors")
    assert all(torch.equal(read[name], t) and read[name].dtype == t.dtype for name, t in tensors.items())

    monkeypatch.setattr(writer, "MAX_SHARD", 60)
    writer.write_checkpoint(tmp_path, SMALL, plans, "{}", "")
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())["weight_map"]
    assert list(index.values()) == [f"model-0000{i}-of-00002.safetensors" for i in (1, 1, 2, 2)]
    assert torch.equal(load_file(tmp_path / index["d"])["d"], tensors["d"])


@pytest.mark.slow
def test_loading_does_not_import_the_compiler(folder: Path) -> None:
    code = (
        "import sys, torch; from pathlib import Path; from flamingo_eval.models.checkpoint import load_flamingo; "
        f"load_flamingo(Path({str(folder)!r}), torch.device('cpu'), torch.float32); "
        "sys.exit('torch._dynamo' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
