"""`flamingo-eval build`: a checkpoint folder from a frozen vision encoder and a frozen language model."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class NewRows(StrEnum):
    """Whether training changes the rows of added tokens."""

    trained = "trained"
    frozen = "frozen"


class Placement(StrEnum):
    """Which of each n blocks has a gated block before it."""

    first = "first"
    last = "last"


def build(
    vision: Annotated[Path, typer.Option(help="CLIP (any form that convert accepts), SigLIP, or a checkpoint folder.")],
    language_model: Annotated[Path, typer.Option(help="Hugging Face folder of the language model, base or chat.")],
    out: Annotated[Path, typer.Option(help="The checkpoint folder to write.")],
    cross_attention_every: Annotated[
        int | None, typer.Option(min=1, help="Gated block before every n-th LM block. Default: as the paper, by size.")
    ] = None,
    placement: Annotated[
        Placement, typer.Option(help="Gated block before the first of each n blocks (paper), or before the last.")
    ] = Placement.first,
    keep_text: Annotated[
        bool,
        typer.Option(
            "--keep-text", help="Text that sees no picture passes the gated blocks unchanged (not so in the paper)."
        ),
    ] = False,
    latents: Annotated[int, typer.Option(min=1, help="Visual tokens of a picture.")] = 64,
    resampler_layers: Annotated[int, typer.Option(min=1, help="Layers of the Resampler.")] = 6,
    resampler_width: Annotated[int | None, typer.Option(min=1, help="Default: the vision encoder's width.")] = None,
    new_rows: Annotated[
        NewRows, typer.Option(help="Rows of added tokens: trained with the bridge, or frozen like all others.")
    ] = NewRows.trained,
    tokenizer: Annotated[
        Path | None, typer.Option(help="Folder with the tokenizer, if the model's folder has none.")
    ] = None,
    vision_config: Annotated[str | None, typer.Option(help="For a plain state dict, e.g. ViT-L-14.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the new parts' weights.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Build a Flamingo from a frozen vision encoder and a frozen language model, gates at zero.

    Until it is trained, it answers like the language model.
    """
    from flamingo_eval.cli.option_checks import Checks, check_new_folder, check_there

    checks = Checks()
    checks.attempt(lambda: check_there(vision, "--vision"))
    checks.attempt(lambda: check_there(language_model, "--language-model"))
    checks.attempt(lambda: check_there(tokenizer, "--tokenizer"))
    checks.attempt(lambda: check_new_folder(out))
    checks.require()
    from flamingo_eval.models.convert.build import BridgeOptions, build, shares

    options = BridgeOptions(
        every=cross_attention_every,
        latents=latents,
        resampler_layers=resampler_layers,
        resampler_width=resampler_width,
        new_rows=new_rows.value,
        seed=seed,
        placement=placement.value,
        keep_text=keep_text,
    )
    config, notes = build(vision, language_model, out, options, tokenizer, vision_config)
    paper, rows = shares(config)
    if as_json:
        parts = {part: {"parameters": n, "share": share, "paper": of_paper} for part, n, share, of_paper in rows}
        typer.echo(json.dumps({"model": str(out), "paper": paper, "parts": parts, "notes": list(notes)}))
        return
    for note in notes:
        typer.echo(f"warning: {note}", err=True)
    typer.echo(f"{'part':<12}{'parameters':>16}{'share':>8}{paper:>16}")
    for part, n, share, of_paper in rows:
        typer.echo(f"{part:<12}{n:>16,}{share:>8.1%}{of_paper:>16.1%}")
    typer.echo(
        f"gated blocks before {len(config.xattn_blocks)} of {config.decoder.layers} blocks of the language model"
    )
    typer.echo(f"{out}: ready. Use it with --model {out}")
