"""What `train` says where nothing can be written."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from flamingo_eval.cli import app
from flamingo_eval.errors import ConfigError, UsageError
from flamingo_eval.models.checkpoint import save_tensors
from flamingo_eval.training import loop


def test_out_below_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match=r"file/x: cannot be written: .*file: is no folder"):
        CliRunner().invoke(app, ["train", "tiny", "--out", str(tmp_path / "file" / "x")], catch_exceptions=False)


def test_a_full_disk_leaves_the_state_before_and_no_half_one(tmp_path: Path) -> None:
    module = torch.nn.Linear(100, 100)
    optimizer = torch.optim.AdamW(module.parameters())
    loop._save(tmp_path / "stage.pt", {"m": module}, optimizer, 1, 0.0)
    before = (tmp_path / "stage.pt").read_bytes()
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("no /dev/full here")
    (tmp_path / f".stage.pt.{os.getpid()}.tmp").symlink_to(full)  # the temporary name of files.write_atomically
    with pytest.raises(OSError, match="No space left"):
        loop._save(tmp_path / "stage.pt", {"m": module}, optimizer, 2, 0.0)
    assert (tmp_path / "stage.pt").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["stage.pt"]


def test_everything_that_a_recipe_names_and_is_not_there_is_said_at_once(tmp_path: Path) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(
        "stage: bridge\nname: mine\nmodel: built\noptim: {updates: 5, lr: 1.0e-3}\ndata:\n"
        '  - {name: a, kind: pairs, files: ["shard-{00..01}.tar"], batch: 4}\n'
        "  - {name: b, kind: episodes, task: vqav3, protocol: flmingo, data: nowhere, batch: 4}\n"
    )
    result = CliRunner().invoke(app, ["train", str(recipe), "--out", str(tmp_path / "out")])
    assert isinstance(result.exception, ConfigError)
    text = str(result.exception)
    for part in (
        "mine.yaml: 6 problems",
        "built: there is no such file or folder",
        "shard-00.tar is missing",
        "shard-01.tar is missing",
        "Did you mean 'vqav2'?",
        "Did you mean 'flamingo'?",
        "--data nowhere: there is no such folder",
    ):
        assert part in text
    assert list(tmp_path.iterdir()) == [recipe]


def test_a_checkpoint_that_does_not_fit_on_the_disk_is_not_written_at_all(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            save_tensors({"a": torch.zeros(100_000)}, tmp_path / "model.safetensors")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []


def test_ranks_that_are_not_described_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "two")
    with pytest.raises(UsageError, match="WORLD_SIZE=two: expected an integer"):
        CliRunner().invoke(app, ["train", "tiny", "--out", str(tmp_path / "x")], catch_exceptions=False)
