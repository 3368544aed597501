"""An encoder is trained on one's own pairs: killed, resumed, over ranks, evaluated, and built into a bridge."""

from __future__ import annotations

import csv
import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from rich.console import Console
from safetensors.torch import load_file

from flamingo_eval.errors import CheckpointError, ConfigError, DataError
from flamingo_eval.models.convert.build import read_vision
from flamingo_eval.training.bridge.invented import write_invented
from flamingo_eval.training.contrastive.recipe import load_contrastive_recipe
from flamingo_eval.training.contrastive.train import train_encoder
from flamingo_eval.training.recipe import stage_of
from tests.support.shards import picture_bytes, write_tar

COLOURS = {"red": (220, 20, 20), "green": (20, 200, 20), "blue": (20, 20, 220), "white": (250, 250, 250)}


def recipe_file(place: Path, name: str = "recipe", **changes: Any) -> Path:
    values: dict[str, Any] = {
        "stage": "contrastive",
        "name": "own",
        "vision": "built",
        "tokenizer": "built",
        "optim": {"updates": 12, "lr": 0.002, "warmup": 2},
        "text": {"width": 32, "layers": 1, "heads": 2},
        "width": 16,
        "dtype": "float32",
        "threads": 1,
        "log_every": 1,
        "state": {"every_s": 0, "keep": 1},
        "data": [{"name": "colours", "kind": "pairs", "files": ["colours.tar"], "batch": 6, "block": 16}],
        **changes,
    }
    path = place / f"{name}.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("contrastive")
    write_invented(folder / "built", 0)
    members: dict[str, bytes] = {}
    for i in range(16):
        name = list(COLOURS)[i % 4]
        members |= {f"{i:03d}.png": picture_bytes(COLOURS[name], 16 + i), f"{i:03d}.txt": f"a {name} picture".encode()}
    write_tar(folder / "colours.tar", members)
    return folder


def train(path: Path, out: Path) -> str:
    output = io.StringIO()
    train_encoder(load_contrastive_recipe(path), path.parent, out, "cpu", Console(file=output, width=200))
    return output.getvalue()


def rows(out: Path) -> list[dict[str, str]]:
    with (out / "curves.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def whole_run(place: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole")
    train(recipe_file(place), out)
    return out


@pytest.mark.slow
def test_the_loss_falls_and_build_can_use_the_encoder(place: Path, whole_run: Path) -> None:
    assert stage_of(place / "recipe.yaml") == "contrastive"
    losses = [float(row["loss"]) for row in rows(whole_run)]
    assert sum(losses[-3:]) < sum(losses[:3]) - 0.3
    vision, before = read_vision(whole_run, None), read_vision(place / "built", None)
    assert (vision.config, vision.preprocess) == (before.config, before.preprocess)
    assert vision.weights.keys() == before.weights.keys()
    name = "vision.positions"
    assert not torch.equal(vision.weights[name].read(), before.weights[name].read())


@pytest.mark.slow
def test_a_stopped_run_ends_with_the_same_weights(
    place: Path, whole_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step, steps = torch.optim.AdamW.step, 0

    def stops(self: torch.optim.AdamW, *args: Any) -> Any:
        nonlocal steps
        steps += 1
        if steps > 5:
            raise KeyboardInterrupt
        return step(self, *args)

    with monkeypatch.context() as patched:
        patched.setattr(torch.optim.AdamW, "step", stops)
        with pytest.raises(KeyboardInterrupt):
            train(place / "recipe.yaml", tmp_path)
    assert "resuming after update" in train(place / "recipe.yaml", tmp_path)
    ours, theirs = (load_file(out / "encoder" / "model.safetensors") for out in (tmp_path, whole_run))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    with pytest.raises(CheckpointError, match="another recipe"):
        train(recipe_file(place, "other", seed=3), tmp_path)


@pytest.mark.slow
def test_two_ranks_compare_with_the_pairs_of_both(place: Path, whole_run: Path, tmp_path: Path) -> None:
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "flamingo_eval")
    command = [
        sys.executable,
        *launcher,
        "train",
        str(place / "recipe.yaml"),
        "--out",
        str(tmp_path),
        "--device",
        "cpu",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert (tmp_path / "encoder" / "config.json").is_file(), done.stderr[-3000:]
    losses = [torch.tensor([float(row["loss"]) for row in rows(out)]) for out in (tmp_path, whole_run)]
    torch.testing.assert_close(losses[0], losses[1], rtol=0, atol=1e-5)
    ours, theirs = (load_file(out / "encoder" / "model.safetensors") for out in (tmp_path, whole_run))
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, theirs[name], rtol=0, atol=1e-4)


@pytest.mark.slow
def test_classification_and_retrieval_are_measured_while_it_learns(place: Path, tmp_path: Path) -> None:
    evaluate = {"tasks": ["imagenet", "coco"], "every": 6, "limit": 8}
    train(recipe_file(place, "measured", evaluate=evaluate), tmp_path)
    measured = [row for row in rows(tmp_path) if row["imagenet accuracy"]]
    assert [row["update"] for row in measured] == ["6", "12"]
    for key in ("coco image_to_text_r@1", "coco text_to_image_r@10"):
        assert 0 <= float(measured[-1][key]) <= 100
    with pytest.raises(DataError, match="not about single pictures"):
        train(recipe_file(place, "clips", evaluate={"tasks": ["msvdqa"], "every": 6}), tmp_path / "x")


def test_what_is_wrong_with_a_recipe_is_said(place: Path) -> None:
    with pytest.raises(ConfigError) as error:
        load_contrastive_recipe(recipe_file(place, "wrong", text={"width": 30, "heads": 4}, data=[], vison="x"))
    assert "unknown key 'vison'" in str(error.value)
    with pytest.raises(ConfigError) as error:
        load_contrastive_recipe(recipe_file(place, "wrong", text={"width": 30, "heads": 4}, data=[]))
    assert "fewer than two pairs" in str(error.value)
    assert "30 is not divisible by 4 heads" in str(error.value)
    (place / "stage.yaml").write_text("stage: brigde\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="Did you mean 'bridge'"):
        stage_of(place / "stage.yaml")
