from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from flamingo_eval.api import load_flamingo_model
from flamingo_eval.cli.convert import app
from flamingo_eval.errors import CheckpointError, UsageError
from tests.support.openflamingo_files import tower_state

DATA = Path(__file__).parent.parent / "data" / "openflamingo" / "opt"


def arguments(out: Path, checkpoint: Path = DATA / "checkpoint.pt") -> list[str]:
    paths = {"checkpoint": checkpoint, "language-model": DATA / "lm", "vision": DATA / "vision_hf", "out": out}
    paths["tokenizer"] = DATA / "tokenizer"
    options = [text for name, path in paths.items() for text in (f"--{name}", str(path))]
    return ["openflamingo", *options, "--cross-attention-every", "1"]


def test_says_where_the_model_is(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, arguments(tmp_path / "out"), catch_exceptions=False)
    assert result.exit_code == 0
    assert f"{tmp_path / 'out'}: ready" in result.output
    assert load_flamingo_model(tmp_path / "out").name == "out"
    card = (tmp_path / "out" / "README.md").read_text()
    assert "from an OpenFlamingo checkpoint" in card
    assert "`checkpoint.pt`, sha256 `" in card
    assert str(tmp_path) not in card


def test_json(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, [*arguments(tmp_path / "out"), "--json"], catch_exceptions=False)
    assert json.loads(result.stdout) == {"model": str(tmp_path / "out"), "notes": []}


def test_published_checkpoints_are_flat_dicts(tmp_path: Path) -> None:
    state = torch.load(DATA / "checkpoint.pt", weights_only=True)["model_state_dict"]
    flat = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    # early versions saved the frozen tower, and the gated blocks under their second names too
    flat |= {f"vision_encoder.{name}": t for name, t in tower_state(8, torch.Generator()).items()}
    flat["lang_encoder.gated_cross_attn_layers.0.attn_gate"] = torch.zeros(1)
    torch.save(flat, tmp_path / "flat.pt")
    CliRunner().invoke(app, arguments(tmp_path / "one"), catch_exceptions=False)
    CliRunner().invoke(app, arguments(tmp_path / "other", tmp_path / "flat.pt"), catch_exceptions=False)
    one, other = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("one", "other"))
    assert one == other


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--checkpoint .*absent\.pt: there is no such file"):
        CliRunner().invoke(app, arguments(tmp_path / "out", tmp_path / "absent.pt"), catch_exceptions=False)
    with pytest.raises(CheckpointError, match=r"config\.json: there is no such file"):
        CliRunner().invoke(app, ["idefics", "--model", str(tmp_path), "--out", "x"], catch_exceptions=False)


@pytest.mark.slow
def test_memory_stays_below_two_of_the_largest_files(tmp_path: Path) -> None:
    """Peak of resident memory, mapped files included, above what converting a very small model takes."""
    pytest.importorskip("transformers")
    if not Path("/proc/self/status").exists():
        pytest.skip("reads the peak from /proc")
    make = """
import sys, torch, transformers
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from tests.support.openflamingo_files import write_files
config = transformers.LlamaConfig(hidden_size=512, intermediate_size=2048, num_attention_heads=8, num_hidden_layers=12,
                                  vocab_size=257, max_position_embeddings=64)
write_files(Path(sys.argv[2]), transformers.LlamaForCausalLM(config), "model.layers", 12, 512, every=4,
            max_shard_size="40MB")
"""
    convert = """
import sys
from pathlib import Path
from flamingo_eval.models.convert.openflamingo import convert_openflamingo
def peak(): return next(int(l.split()[1]) for l in open("/proc/self/status") if l.startswith("VmHWM")) * 1024
def convert(folder, vision, every, out):
    convert_openflamingo(folder / "checkpoint.pt", folder / "lm", folder / vision, folder / "tokenizer", every, out)
folder = Path(sys.argv[1])
convert(Path(sys.argv[2]), "vision_hf", 1, folder / "small")
before = peak()
convert(folder, "vision", 4, folder / "out")
print(peak() - before)
"""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(
        [sys.executable, "-c", make, str(Path(__file__).parents[2]), str(tmp_path)], check=True, env=environment
    )
    run = [sys.executable, "-c", convert, str(tmp_path), str(DATA)]
    used = int(subprocess.run(run, check=True, env=environment, capture_output=True, text=True).stdout)
    files = [*(tmp_path / "lm").glob("*.safetensors"), tmp_path / "checkpoint.pt"]
    assert len(files) > 4
    largest = max(file.stat().st_size for file in files)
    assert used < 2 * largest < sum(file.stat().st_size for file in files)
