"""What `train` says where nothing can be written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from flamingo_eval.cli import app
from flamingo_eval.errors import UsageError
from flamingo_eval.training import loop


def test_out_below_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match=r"file/x: cannot be written: Not a directory"):
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
