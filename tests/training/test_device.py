"""Training on a device that is not the CPU."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console

from flamingo_eval.api import Model
from flamingo_eval.training import language_stage
from flamingo_eval.training.recipe import load_recipe
from flamingo_eval.training.trainer import train_recipe
from tests.support.pretend_device import PretendDevice

UPDATES = 4  # rounding grows with them


@pytest.mark.slow
def test_all_stages_train_there_what_they_train_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """New weights are drawn on the CPU, and batches too: only rounding may differ."""
    monkeypatch.setattr(language_stage, "CHECKED_EPISODES", 5)
    smoke = load_recipe("tiny").smoke()
    few = replace(smoke.contrastive.optim, updates=UPDATES)
    recipe = replace(
        smoke,
        dtype="float32",
        contrastive=replace(smoke.contrastive, optim=few, views=1),
        language=replace(smoke.language, optim=few),
        flamingo=replace(smoke.flamingo, optim=few, views=1, filmed=4),
    )
    here = train_recipe(recipe, tmp_path / "here", "cpu", Console(file=io.StringIO()))
    with PretendDevice():
        there = train_recipe(recipe, tmp_path / "there", "cuda", Console(file=io.StringIO()))
    expected = Model.load(here).flamingo.state_dict()
    for name, tensor in Model.load(there).flamingo.state_dict().items():
        assert torch.allclose(tensor, expected[name], atol=5e-3), name
