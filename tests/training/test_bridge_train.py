"""A bridge is trained, killed, resumed and used; what it cannot read it says in a sentence."""

from __future__ import annotations

import csv
import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from rich.console import Console
from safetensors.torch import load_file
from torch import Tensor

from flamingo_eval.api import load_flamingo_model
from flamingo_eval.errors import CheckpointError, ConfigError, DataError, MissingDependency
from flamingo_eval.records import END_OF_CHUNK, Image, Prompt
from flamingo_eval.training.bridge.invented import write_invented
from flamingo_eval.training.bridge.recipe import load_bridge_recipe
from flamingo_eval.training.bridge.train import smoke_recipe, train_bridge
from flamingo_eval.training.recipe import recipe_path, stage_of
from tests.support.shards import pairs, picture_bytes, write_tar

UPDATES = 8


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with invented parts and two data sets."""
    folder = tmp_path_factory.mktemp("bridge")
    write_invented(folder / "built", 0)
    for i in range(3):
        write_tar(folder / f"shard-{i:03d}.tar", pairs(10, 10 * i))
    (folder / "1.png").write_bytes(picture_bytes())
    rows = ["image,question,answers", *(f"1.png,how many?,{i}" for i in range(20))]
    (folder / "rows.csv").write_text("\n".join(rows), encoding="utf-8")
    return folder


def recipe_file(place: Path, name: str = "recipe", **changes: Any) -> Path:
    values: dict[str, Any] = {
        "stage": "bridge",
        "name": name,
        "model": "built",
        "optim": {"updates": UPDATES, "lr": 0.003, "warmup": 2},
        "dtype": "float32",
        "init": "unit",
        "threads": 1,
        "log_every": 2,
        "state": {"every_s": 0, "keep": 2},
        "data": [
            {"name": "pairs", "kind": "pairs", "files": ["shard-{000..002}.tar"], "batch": 4, "block": 8},
            {"name": "rows", "kind": "rows", "files": ["rows.csv"], "batch": 2, "weight": 0.5},
        ],
        **changes,
    }
    path = place / f"{name}.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return path


def train(path: Path, out: Path) -> str:
    """Train in this process. -> what was printed"""
    output = io.StringIO()
    train_bridge(load_bridge_recipe(path), path.parent, out, "cpu", Console(file=output, width=200))
    return output.getvalue()


def weights(out: Path) -> Mapping[str, Tensor]:
    return load_file(out / "checkpoint" / "model.safetensors")


def curve(out: Path, name: str = "curves.csv") -> list[dict[str, str]]:
    with (out / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def assert_same(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> None:
    assert a.keys() == b.keys()
    different = [name for name in a if not torch.equal(a[name], b[name])]
    assert not different


@pytest.fixture(scope="module")
def whole_run(place: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing interrupted."""
    out = tmp_path_factory.mktemp("whole")
    train(recipe_file(place), out)
    return out


@pytest.mark.slow
def test_a_trained_folder_keeps_its_frozen_parts_and_answers(place: Path, whole_run: Path) -> None:
    before, after = load_file(place / "built" / "model.safetensors"), weights(whole_run)
    frozen = [n for n in before if n.startswith(("vision.", "decoder.")) and n != "decoder.embedding.weight"]
    assert all(torch.equal(before[name], after[name]) for name in frozen)
    rows = "decoder.embedding.weight"
    assert torch.equal(before[rows][:256], after[rows][:256])
    assert not torch.equal(before[rows][256:], after[rows][256:])
    model = load_flamingo_model(whole_run / "checkpoint")
    assert model.name == "recipe"
    picture = Image(place / "1.png")
    assert isinstance(model.generate([Prompt([picture, "a", END_OF_CHUNK, picture])])[0], str)
    card = (whole_run / "checkpoint" / "README.md").read_text(encoding="utf-8")
    assert "8 updates" in card
    assert "| pairs (pairs) | 4 | 1 | 3" in card


@pytest.mark.slow
def test_curves_say_what_happened(whole_run: Path) -> None:
    rows = curve(whole_run)
    assert [row["update"] for row in rows] == ["2", "4", "6", "8"]
    assert float(rows[-1]["loss pairs"]) < float(rows[0]["loss pairs"])
    assert float(rows[-1]["gate"]) > 0
    for column in ("loss rows", "norm", "lr", "tokens_per_s", "pictures_per_s", "flop_share", "seconds", "gate 0"):
        assert float(rows[-1][column]) > 0, column


class Stopped(BaseException):
    """Stands for a signal."""


@pytest.mark.slow
@pytest.mark.parametrize("at", [1, 4, 7])
def test_a_run_that_was_stopped_ends_with_the_same_weights(
    place: Path, whole_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    step, steps = torch.optim.AdamW.step, 0

    def stops(self: torch.optim.AdamW, *args: Any) -> Any:
        nonlocal steps
        steps += 1
        if steps > at:
            raise Stopped
        return step(self, *args)

    with monkeypatch.context() as patched:
        patched.setattr(torch.optim.AdamW, "step", stops)
        with pytest.raises(Stopped):
            train(place / "recipe.yaml", tmp_path)
    output = train(place / "recipe.yaml", tmp_path)
    assert "resuming after update" in output or at == 1
    assert_same(weights(tmp_path), weights(whole_run))
    same = ("update", "loss pairs", "loss rows", "gate")
    pairs_of = [[{key: row[key] for key in same} for row in curve(out)] for out in (tmp_path, whole_run)]
    assert pairs_of[0][-1]["update"] == pairs_of[1][-1]["update"]
    assert "finished" in train(place / "recipe.yaml", tmp_path)


@pytest.mark.slow
def test_a_killed_run_ends_with_the_same_weights(place: Path, whole_run: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "flamingo_eval", "train", str(place / "recipe.yaml"), "--out", str(tmp_path)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True) as process:
        until = time.monotonic() + 120
        while process.poll() is None and time.monotonic() < until and not list(tmp_path.glob("states/0*")):
            time.sleep(0.02)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    train(place / "recipe.yaml", tmp_path)
    assert_same(weights(tmp_path), weights(whole_run))


@pytest.mark.slow
def test_states_are_kept_by_the_rule(place: Path, tmp_path: Path) -> None:
    seldom = {"every_s": 1e9, "keep": 1, "keep_every": 3}
    train(recipe_file(place, "kept", state=seldom), tmp_path / "seldom")
    assert sorted(int(path.name) for path in (tmp_path / "seldom" / "states").iterdir()) == [3, 6, UPDATES]
    often = {"every_s": 0, "keep": 2, "keep_every": 3}
    train(recipe_file(place, "kept", state=often), tmp_path / "often")
    kept = sorted(int(path.name) for path in (tmp_path / "often" / "states").iterdir())
    assert {3, 6, UPDATES} <= set(kept)
    assert len([n for n in kept if n % 3]) <= 2


@pytest.mark.slow
def test_a_run_may_stop_early_and_go_on(place: Path, whole_run: Path, tmp_path: Path) -> None:
    train(recipe_file(place, "recipe", until=3), tmp_path)
    assert [path.name for path in (tmp_path / "states").iterdir()][-1:] == ["00000003"]
    early = weights(tmp_path)
    assert "resuming after update 3" in train(recipe_file(place), tmp_path)
    assert_same(weights(tmp_path), weights(whole_run))
    assert any(not torch.equal(early[name], tensor) for name, tensor in weights(tmp_path).items())


@pytest.mark.slow
def test_cutting_a_batch_into_parts_changes_only_the_rounding(place: Path, whole_run: Path, tmp_path: Path) -> None:
    train(recipe_file(place, "recipe", accumulate=2, checkpointing=True), tmp_path)
    recipe_file(place)
    for name, tensor in weights(tmp_path).items():
        torch.testing.assert_close(tensor, weights(whole_run)[name], rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_round_robin_takes_one_data_set_an_update(place: Path, tmp_path: Path) -> None:
    train(recipe_file(place, "turns", mix="round-robin", log_every=1), tmp_path)
    rows = curve(tmp_path)
    assert [bool(row["loss pairs"]) for row in rows] == [True, False] * 4
    assert [bool(row["loss rows"]) for row in rows] == [False, True] * 4


@pytest.mark.slow
def test_packed_sequences_are_trained_too(place: Path, tmp_path: Path) -> None:
    train(recipe_file(place, "packed", packing=True, tokens=80), tmp_path)
    rows = curve(tmp_path)
    assert float(rows[-1]["loss pairs"]) < float(rows[0]["loss pairs"])


@pytest.mark.slow
def test_a_data_set_that_ends_ends_the_run_with_a_sentence(place: Path, tmp_path: Path) -> None:
    data = [{"name": "pairs", "kind": "pairs", "files": ["shard-000.tar"], "batch": 4, "at_end": "stop"}]
    output = train(recipe_file(place, "ends", data=data), tmp_path)
    assert "data set 'pairs' ended after 10 samples (at_end: stop). Training ends after 3 of 8 updates." in output
    assert (tmp_path / "checkpoint" / "config.json").is_file()
    assert [path.name for path in (tmp_path / "states").iterdir()][-1:] == ["00000003"]


@pytest.mark.slow
def test_another_recipe_in_the_same_folder_is_refused(place: Path, whole_run: Path) -> None:
    with pytest.raises(CheckpointError, match="another recipe"):
        train(recipe_file(place, "other", seed=7), whole_run)


def test_every_problem_of_a_recipe_is_named_at_once(place: Path) -> None:
    data = [
        {"name": "a", "kind": "pears", "files": ["x.tar"], "batch": 4},
        {"name": "b", "kind": "pairs", "file": ["x.tar"], "batch": 0},
        {"name": "c", "kind": "episodes", "task": "coco", "batch": "many"},
    ]
    with pytest.raises(ConfigError) as error:
        load_bridge_recipe(recipe_file(place, "wrong", data=data, dtype="float8", tokes=3))
    for words in ("pairs, documents, rows, episodes", "unknown key 'file'", "'many'", "float8", "unknown key 'tokes'"):
        assert words in str(error.value), words
    same = {"name": "a", "kind": "rows", "files": ["rows.csv"], "batch": 1}
    with pytest.raises(ConfigError, match="duplicate name 'a'"):
        load_bridge_recipe(recipe_file(place, "twice", data=[same, same], accumulate=1))
    with pytest.raises(ConfigError, match="expected a number from 1, got 0"):
        load_bridge_recipe(recipe_file(place, "none", accumulate=0))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"kind": "pairs", "files": ["shard-{000..004}.tar"]}, "shard-003.tar is missing"),
        ({"kind": "documents", "files": ["docs.jsonl"]}, "docs.jsonl is missing"),
        ({"kind": "rows", "files": ["none-*.csv"]}, "no file matches"),
    ],
)
def test_missing_files_are_named_before_anything_is_loaded(
    place: Path, tmp_path: Path, data: dict[str, Any], words: str
) -> None:
    with pytest.raises(DataError, match=words):
        train(recipe_file(place, "missing", data=[{"name": "a", "batch": 2, **data}]), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_captions_that_are_not_utf8_stop_the_run_where_there_are_many(place: Path, tmp_path: Path) -> None:
    members = pairs(20)
    members |= {f"{i:06d}.txt": "Zürich".encode("latin-1") for i in range(4)}
    write_tar(place / "latin.tar", members)
    data = [{"name": "latin", "kind": "pairs", "files": ["latin.tar"], "batch": 8}]
    with pytest.raises(DataError, match=r"\d of 2\d samples are broken") as error:
        train(recipe_file(place, "latin", data=data), tmp_path)
    assert "latin.tar: 000003: the caption is not UTF-8 (byte 1)." in str(error.value)
    assert "fix" in str(error.value).lower()


@pytest.mark.slow
def test_evaluation_while_training_writes_scores_and_their_figure(place: Path, tmp_path: Path) -> None:
    evaluate = {"tasks": ["fastbind"], "shots": [0, 5], "every": 4, "limit": 3}
    train(recipe_file(place, "recipe", evaluate=evaluate), tmp_path)
    recipe_file(place)
    rows = curve(tmp_path, "scores.csv")
    assert [(row["update"], row["shots"]) for row in rows] == [(str(u), k) for u in (0, 4, 8) for k in ("0", "5")]
    figure = (tmp_path / "scores.svg").read_text(encoding="utf-8")
    assert figure.count("<polyline") == 2
    assert "5 shots" in figure


@pytest.mark.slow
def test_evaluation_while_training_changes_no_weight(place: Path, whole_run: Path, tmp_path: Path) -> None:
    evaluate = {"tasks": ["fastbind"], "shots": [0], "every": 2, "limit": 2}
    train(recipe_file(place, "recipe", evaluate=evaluate), tmp_path)
    recipe_file(place)
    assert_same(weights(tmp_path), weights(whole_run))


def test_tensorboard_is_an_extra(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(MissingDependency, match="pip install"):
        train(recipe_file(place, "board", tensorboard=True), tmp_path)


def test_the_shipped_recipe_is_one_of_the_stage_bridge() -> None:
    assert stage_of(recipe_path("bridge")) == stage_of(recipe_path("bridge.yaml")) == "bridge"
    assert stage_of(recipe_path("tiny")) == ""
    assert load_bridge_recipe(recipe_path("bridge")).data[0].name == "captions"


@pytest.mark.slow
def test_smoke_trains_invented_parts_on_the_recipes_data_and_losses_fall(tmp_path: Path) -> None:
    recipe = smoke_recipe(load_bridge_recipe(recipe_path("bridge")), tmp_path)
    assert recipe.optim.updates <= 30
    train_bridge(recipe, Path(), tmp_path, "cpu", Console(file=io.StringIO()))
    rows = curve(tmp_path)
    for name in ("captions", "questions"):
        assert float(rows[-1][f"loss {name}"]) < float(rows[0][f"loss {name}"]) - 0.2
    assert load_flamingo_model(tmp_path / "checkpoint").config.decoder.layers == 4
