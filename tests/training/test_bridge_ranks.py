"""Two ranks of torchrun against one process: the same losses and weights, sharded or not; states move between them."""

from __future__ import annotations

import csv
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from flamingo_eval.training.bridge.invented import write_invented
from tests.support.shards import pairs, write_tar

UPDATES = 20

pytestmark = pytest.mark.slow


def recipe_file(folder: Path, name: str, updates: int = UPDATES, **changes: Any) -> Path:
    values: dict[str, Any] = {
        "stage": "bridge",
        "name": "ranks",
        "model": "built",
        "optim": {"updates": updates, "lr": 0.003, "warmup": 2},
        "dtype": "float32",
        "init": "unit",
        "threads": 1,
        "log_every": 1,
        "state": {"every_s": 1e9, "keep": 5},
        "data": [
            {"name": "pairs", "kind": "pairs", "files": ["shard-{0..1}.tar"], "batch": 5, "block": 8},
            {"name": "more", "kind": "pairs", "files": ["shard-1.tar"], "batch": 2, "weight": 0.3, "stem": "Output:"},
        ],
        **changes,
    }
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return path


def run(path: Path, out: Path, ranks: int = 1) -> None:
    """Train in processes of their own. A process of gloo may die after its work is done: results are what counts."""
    command = [sys.executable]
    if ranks > 1:
        command += ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
    command += ["-m", "flamingo_eval", "train", str(path), "--out", str(out), "--device", "cpu"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert (out / "checkpoint" / "config.json").is_file(), done.stderr[-3000:]


def losses(out: Path) -> torch.Tensor:
    with (out / "curves.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return torch.tensor([[float(row["loss pairs"]), float(row["loss more"])] for row in rows])


def same_weights(out: Path, expected: Path) -> None:
    ours, theirs = (load_file(path / "checkpoint" / "model.safetensors") for path in (out, expected))
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, theirs[name], rtol=0, atol=1e-4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("ranks")
    write_invented(place / "built", 0)
    for i in range(2):
        write_tar(place / f"shard-{i}.tar", pairs(12, 12 * i))
    return place


@pytest.fixture(scope="module")
def alone(folder: Path) -> Path:
    """The run of one process."""
    run(recipe_file(folder, "one"), folder / "one")
    return folder / "one"


@pytest.fixture(scope="module")
def sharded(folder: Path) -> Path:
    """The run of two ranks that share all weights (FSDP)."""
    run(recipe_file(folder, "sharded", parallel="fsdp"), folder / "fsdp", ranks=2)
    return folder / "fsdp"


@pytest.fixture(scope="module")
def copied(folder: Path) -> Path:
    """The run of two ranks with a copy each (DDP)."""
    run(recipe_file(folder, "copied", parallel="ddp"), folder / "ddp", ranks=2)
    return folder / "ddp"


@pytest.mark.parametrize("two_ranks", ["copied", "sharded"])
def test_two_ranks_learn_what_one_process_learns(alone: Path, two_ranks: str, request: pytest.FixtureRequest) -> None:
    out: Path = request.getfixturevalue(two_ranks)
    assert len(losses(out)) == UPDATES
    torch.testing.assert_close(losses(out), losses(alone), rtol=0, atol=1e-5)
    same_weights(out, alone)


def test_a_state_of_two_shards_is_resumed_by_one_process(
    folder: Path, alone: Path, sharded: Path, tmp_path: Path
) -> None:
    out = tmp_path / "resumed"
    shutil.copytree(sharded, out)
    states = sorted((out / "states").iterdir())
    assert (states[-1] / "rank-1.pt").is_file()
    (out / "checkpoint" / "config.json").unlink()
    run(recipe_file(folder, "sharded", parallel="fsdp"), out)
    same_weights(out, alone)
