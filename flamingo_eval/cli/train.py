"""flamingo-eval train: train a checkpoint from scratch with a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console


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
    from dataclasses import replace

    from rich.console import Console

    from flamingo_eval.api import load_flamingo_model
    from flamingo_eval.errors import UsageError
    from flamingo_eval.files import write_error
    from flamingo_eval.models.loaded import choose_device
    from flamingo_eval.training.recipe import load_recipe, recipe_path, stage_of
    from flamingo_eval.training.trainer import train_recipe

    path = recipe_path(recipe)
    console = Console(stderr=True)
    stage = stage_of(path)
    if stage:
        if frozen is not None:
            raise UsageError(f"--frozen is for recipes of three stages; one of the stage {stage} names what it needs.")
        _train_stage(stage, path, out, choose_device(device).type, console, seed, threads, smoke)
        return
    spec = load_recipe(recipe)
    spec = replace(
        spec,
        seed=spec.seed if seed is None else seed,
        threads=spec.threads if threads is None else threads,
    )
    frozen_model = None if frozen is None else load_flamingo_model(frozen)
    try:
        folder = train_recipe(spec.smoke() if smoke else spec, out, choose_device(device).type, console, frozen_model)
    except OSError as error:
        raise write_error(out, error) from error
    console.print(f"checkpoint: {folder}")


def _train_stage(
    stage: str, path: Path, out: Path, device: str, console: Console, seed: int | None, threads: int | None, smoke: bool
) -> None:
    """Train one separate stage; files in the recipe are relative to it, or to the current folder for a shipped one."""
    from dataclasses import replace

    from flamingo_eval.errors import UsageError
    from flamingo_eval.files import write_error
    from flamingo_eval.training.bridge.recipe import load_bridge_recipe
    from flamingo_eval.training.contrastive.recipe import load_contrastive_recipe
    from flamingo_eval.training.recipe import RECIPES

    base = Path() if path.parent == RECIPES else path.parent
    changes = {k: v for k, v in (("seed", seed), ("threads", threads)) if v is not None}
    try:
        if stage == "bridge":
            from flamingo_eval.training.bridge.train import smoke_recipe, train_bridge

            bridge = replace(load_bridge_recipe(path), **changes)  # type: ignore[arg-type]
            folder = train_bridge(smoke_recipe(bridge, out) if smoke else bridge, base, out, device, console)
        else:
            from flamingo_eval.training.contrastive.train import train_encoder

            if smoke:
                raise UsageError("--smoke is for recipes of three stages and of the stage bridge.")
            encoder = replace(load_contrastive_recipe(path), **changes)  # type: ignore[arg-type]
            folder = train_encoder(encoder, base, out, device, console)
    except OSError as error:
        raise write_error(out, error) from error
    console.print(f"{folder.name}: {folder}")
