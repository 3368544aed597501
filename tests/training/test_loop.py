from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console
from torch import Tensor, nn

from flamingo_eval.errors import ConfigError, UsageError
from flamingo_eval.training.loop import Place, finished, fit, learning_rate, make_optimizer
from flamingo_eval.training.recipe import RECIPES, OptimSpec, load_recipe, stage_of


def train(folder: Path, updates: int, stop_at: int | None = None) -> nn.Linear:
    torch.manual_seed(0)
    model = nn.Linear(4, 1)
    place = Place(folder, torch.device("cpu"), torch.float32, Console(file=io.StringIO()))

    def update(i: int) -> tuple[Tensor, dict[str, float]]:
        if i == stop_at:
            raise KeyboardInterrupt
        x = torch.randn(8, 4, generator=torch.Generator().manual_seed(i))
        return (model(x) - x.sum(1, keepdim=True)).square().mean(), {}

    fit("stage", {"model": model}, OptimSpec(updates, 0.05, warmup=2), update, place)
    return model


def test_a_stopped_run_goes_on_as_if_it_had_not_been(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    whole = train(tmp_path / "a", 20)
    monkeypatch.setattr("flamingo_eval.training.loop.SAVE_EVERY_S", 0.0)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "b", 20, stop_at=7)
    resumed = train(tmp_path / "b", 20)
    assert torch.equal(whole.weight, resumed.weight)
    losses = [json.loads(line)["loss"] for line in (tmp_path / "a" / "stage.jsonl").read_text().splitlines()]
    assert losses[-1] < losses[0]


def test_finished_says_so_and_loads(tmp_path: Path) -> None:
    place = Place(tmp_path, torch.device("cpu"), torch.float32, Console(file=io.StringIO()))
    assert not finished("stage", {}, OptimSpec(20, 0.05), place)
    trained = train(tmp_path, 20)
    other = nn.Linear(4, 1)
    assert finished("stage", {"model": other}, OptimSpec(20, 0.05), place)
    assert torch.equal(other.weight, trained.weight)
    assert not finished("stage", {"model": other}, OptimSpec(21, 0.05), place)


def test_the_learning_rate_rises_and_falls() -> None:
    spec = OptimSpec(100, 1.0, warmup=10, final=0.1)
    rates = [learning_rate(spec, i) for i in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == pytest.approx(1.0)
    assert rates[-1] == pytest.approx(0.1, abs=0.01)


def test_gates_learn_faster_and_vectors_are_not_decayed() -> None:
    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(2, 2)
            self.attention_gate = nn.Parameter(torch.zeros(1))

    groups = make_optimizer([Gated()], OptimSpec(1, 0.1, weight_decay=0.5), gate_lr=5.0).param_groups
    assert [(len(g["params"]), g["weight_decay"], g["factor"]) for g in groups] == [
        (1, 0.5, 1.0),
        (1, 0.0, 1.0),
        (1, 0.0, 5.0),
    ]


def test_single_parameters_may_learn_faster_at_the_same_decay() -> None:
    spec = OptimSpec(1, 0.1, weight_decay=0.5)
    groups = make_optimizer([nn.Linear(2, 2)], spec, factors={"weight": 4.0}).param_groups
    assert [(g["params"][0].ndim, g["factor"], g["factor"] * g["weight_decay"]) for g in groups] == [
        (1, 1.0, 0.0),
        (2, 4.0, 0.5),
    ]


@pytest.mark.parametrize(
    "path", [path for path in sorted(RECIPES.glob("*.yaml")) if not stage_of(path)], ids=lambda p: p.stem
)
def test_shipped_recipes_are_valid(path: Path) -> None:
    recipe = load_recipe(path.stem)
    assert recipe.name == path.stem
    assert recipe.smoke().flamingo.optim.updates < recipe.flamingo.optim.updates


def test_a_misspelt_recipe_is_named() -> None:
    with pytest.raises(UsageError, match="Did you mean 'tiny'"):
        load_recipe("tinny")


def test_a_recipe_like_another_says_what_differs(tmp_path: Path) -> None:
    path = tmp_path / "open.yaml"
    path.write_text("like: tiny\nname: open\nflamingo:\n  optim: {lr: 0.5}\n  gate: 100\n")
    tiny = load_recipe("tiny")
    changed = replace(tiny.flamingo, gate=100.0, optim=replace(tiny.flamingo.optim, lr=0.5))
    assert load_recipe(str(path)) == replace(tiny, name="open", flamingo=changed)


def test_a_recipe_may_be_like_one_that_is_like_another(tmp_path: Path) -> None:
    path = tmp_path / "short.yaml"
    path.write_text("like: tiny-ungated\nflamingo:\n  optim: {updates: 7}\n")
    ungated = load_recipe("tiny-ungated")
    short = replace(ungated.flamingo, optim=replace(ungated.flamingo.optim, updates=7))
    assert load_recipe(str(path)) == replace(ungated, flamingo=short)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("like: tinny", "line 1, like: expected the name of a base task, got 'tinny'"),
        ("name: a\nlike: [tiny]", "line 2, like: expected the name of a base task, got a list"),
        ("like: tiny\nlike: base", "duplicate key 'like'"),
        ("like: tiny\nname: a\nname: b", "line 3, file: duplicate key 'name'"),
        ("like: tiny\nflamingo: 3", "line 2, flamingo: expected keys and values"),
    ],
)
def test_what_is_wrong_with_likeness_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=re.escape(message)):
        load_recipe(str(path))
