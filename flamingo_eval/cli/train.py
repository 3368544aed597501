"""flamingo-eval train: make a checkpoint from a recipe, from nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def train(
    recipe: Annotated[
        str, typer.Argument(metavar="RECIPE", help="A shipped recipe (tiny, base, ...), or a YAML file.")
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where states, curves and the checkpoint go.")],
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    seed: Annotated[int | None, typer.Option(help="Instead of the recipe's.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads, instead of the recipe's.")] = None,
    frozen: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL", help="Train the third stage only, on the encoder and decoder of this checkpoint."
        ),
    ] = None,
    smoke: Annotated[bool, typer.Option("--smoke", help="A few small updates of every stage.")] = False,
) -> None:
    """Train RECIPE in three stages: contrastive, language, Flamingo.

    Stopped at any time, the same command goes on from the last state (about one a minute). DIR/checkpoint is what
    --model takes.
    """
    from dataclasses import replace

    from rich.console import Console

    from flamingo_eval.api import load_flamingo_model
    from flamingo_eval.files import write_error
    from flamingo_eval.models.loaded import choose_device
    from flamingo_eval.training.recipe import load_recipe
    from flamingo_eval.training.trainer import train_recipe

    spec = load_recipe(recipe)
    spec = replace(
        spec,
        seed=spec.seed if seed is None else seed,
        threads=spec.threads if threads is None else threads,
    )
    console = Console(stderr=True)
    frozen_model = None if frozen is None else load_flamingo_model(frozen)
    try:
        folder = train_recipe(spec.smoke() if smoke else spec, out, choose_device(device).type, console, frozen_model)
    except OSError as error:
        raise write_error(out, error) from error
    console.print(f"checkpoint: {folder}")
