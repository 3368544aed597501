"""flamingo-eval train: train a checkpoint from scratch with a recipe."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from flamingo_eval.training.bridge.recipe import BridgeRecipe
    from flamingo_eval.training.contrastive.recipe import ContrastiveRecipe
    from flamingo_eval.training.recipe import Recipe


def train(
    recipe: Annotated[
        str, typer.Argument(metavar="RECIPE", help="A shipped recipe (tiny, base, ...), or a YAML file.")
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for states, curves and the checkpoint.")],
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    seed: Annotated[int | None, typer.Option(help="Instead of the recipe's.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads, instead of the recipe's.")] = None,
    frozen: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL", help="Train the third stage only, on the encoder and decoder of this checkpoint."
        ),
    ] = None,
    smoke: Annotated[bool, typer.Option("--smoke", help="Run only a few small updates of every stage.")] = False,
) -> None:
    """Train RECIPE in three stages (contrastive, language, Flamingo), or as a bridge between two frozen models.

    The same command resumes from the last state. DIR/checkpoint is what --model takes.
    A recipe with `stage: bridge` trains the new parts of a folder of `flamingo-eval build` on your own data, one with
    `stage: contrastive` an encoder on your own pairs; start them with torchrun for several GPUs.
    """
    from flamingo_eval.cli.option_checks import Checks, check_device, check_out_folder, check_there
    from flamingo_eval.distributed.environment import rank_environment

    checks = Checks()
    checks.attempt(lambda: check_device(device))
    checks.attempt(lambda: check_out_folder(out))
    checks.attempt(rank_environment)
    if frozen is not None and frozen != "tiny":
        other = Path(frozen)
        checks.attempt(lambda: check_there(other, "--frozen"))
    recipe_read = checks.attempt(lambda: _read(recipe, seed, threads, frozen, smoke))
    checks.require()
    assert recipe_read is not None
    from rich.console import Console

    from flamingo_eval.files import write_error
    from flamingo_eval.models.loaded import choose_device

    console = Console(stderr=True)
    try:
        folder = _train(recipe_read, out, choose_device(device).type, console, frozen, smoke)
    except OSError as error:
        raise write_error(out, error) from error
    console.print(f"{folder.name}: {folder}")


@dataclass(frozen=True, slots=True)
class _Read:
    """A recipe, and the folder that names of files in it are below."""

    recipe: Recipe | BridgeRecipe | ContrastiveRecipe
    base: Path


def _read(name: str, seed: int | None, threads: int | None, frozen: str | None, smoke: bool) -> _Read:
    """The recipe with the options' changes; all that it names is there.

    Files in the recipe are relative to it, or to the current folder for a shipped one.

    Raises UsageError, ConfigError.
    """
    from flamingo_eval.errors import UsageError
    from flamingo_eval.training.bridge.recipe import load_bridge_recipe, require_inputs
    from flamingo_eval.training.contrastive.recipe import load_contrastive_recipe
    from flamingo_eval.training.recipe import RECIPES, load_recipe, recipe_path, stage_of

    path = recipe_path(name)
    base = Path() if path.parent == RECIPES else path.parent
    changes = {k: v for k, v in (("seed", seed), ("threads", threads)) if v is not None}
    stage = stage_of(path)
    if stage and frozen is not None:
        raise UsageError(f"--frozen is for recipes of three stages; one of the stage {stage} names what it needs.")
    if stage == "bridge":
        bridge = load_bridge_recipe(path)
        require_inputs(path, bridge.data, base, {} if smoke else {"model": bridge.model})
        return _Read(replace(bridge, **changes), base)  # type: ignore[arg-type]
    if stage == "contrastive":
        if smoke:
            raise UsageError("--smoke is for recipes of three stages and of the stage bridge.")
        encoder = load_contrastive_recipe(path)
        require_inputs(path, encoder.data, base, {"vision": encoder.vision, "tokenizer": encoder.tokenizer})
        return _Read(replace(encoder, **changes), base)  # type: ignore[arg-type]
    return _Read(replace(load_recipe(name), **changes), base)  # type: ignore[arg-type]


def _train(read: _Read, out: Path, device: str, console: Console, frozen: str | None, smoke: bool) -> Path:
    """-> the folder that was written"""
    from flamingo_eval.training.bridge.recipe import BridgeRecipe
    from flamingo_eval.training.contrastive.recipe import ContrastiveRecipe

    recipe = read.recipe
    if isinstance(recipe, BridgeRecipe):
        from flamingo_eval.training.bridge.train import smoke_recipe, train_bridge

        return train_bridge(smoke_recipe(recipe, out) if smoke else recipe, read.base, out, device, console)
    if isinstance(recipe, ContrastiveRecipe):
        from flamingo_eval.training.contrastive.train import train_encoder

        return train_encoder(recipe, read.base, out, device, console)
    from flamingo_eval.api import load_flamingo_model
    from flamingo_eval.training.trainer import train_recipe

    frozen_model = None if frozen is None else load_flamingo_model(frozen)
    return train_recipe(recipe.smoke() if smoke else recipe, out, device, console, frozen_model)
