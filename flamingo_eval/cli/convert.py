"""`flamingo-eval convert`: foreign checkpoints -> our checkpoint folders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="Turn an OpenFlamingo or IDEFICS checkpoint into a checkpoint folder.")

Out = Annotated[Path, typer.Option(help="The checkpoint folder to write.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


@app.command()
def openflamingo(
    checkpoint: Annotated[Path, typer.Option(help="checkpoint.pt, as trained or as published.")],
    language_model: Annotated[Path, typer.Option(help="Hugging Face folder of the frozen language model.")],
    vision: Annotated[Path, typer.Option(help="CLIP: a Hugging Face or open_clip folder, or a state dict.")],
    tokenizer: Annotated[Path, typer.Option(help="Folder with tokenizer.json, special tokens added.")],
    cross_attention_every: Annotated[int, typer.Option(min=1, help="Gated block before every n-th LM block.")],
    out: Out,
    vision_config: Annotated[
        str | None, typer.Option(help="For a plain state dict: a name such as ViT-L-14, or a model_config.json.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Convert an OpenFlamingo checkpoint with its language model, vision tower and tokenizer."""
    _check(
        out,
        ("--checkpoint", checkpoint),
        ("--language-model", language_model),
        ("--vision", vision),
        ("--tokenizer", tokenizer),
    )
    from flamingo_eval.models.convert.openflamingo import convert_openflamingo

    notes = convert_openflamingo(
        checkpoint, language_model, vision, tokenizer, cross_attention_every, out, vision_config=vision_config
    )
    _report(out, notes, as_json)


@app.command()
def idefics(
    model: Annotated[Path, typer.Option(help="Hugging Face folder of an IDEFICS model.")],
    out: Out,
    tokenizer: Annotated[Path | None, typer.Option(help="Folder with the tokenizer, if MODEL has none.")] = None,
    as_json: Json = False,
) -> None:
    """Convert an IDEFICS model."""
    _check(out, ("--model", model), ("--tokenizer", tokenizer))
    from flamingo_eval.models.convert.idefics import convert_idefics

    _report(out, convert_idefics(model, out, tokenizer=tokenizer), as_json)


def _check(out: Path, *inputs: tuple[str, Path | None]) -> None:
    """Raise UsageError with everything that is wrong with the places, before PyTorch is imported."""
    from flamingo_eval.cli.option_checks import Checks, check_new_folder, check_there

    checks = Checks()
    for option, path in inputs:
        checks.attempt(lambda path=path, option=option: check_there(path, option))  # type: ignore[misc]
    checks.attempt(lambda: check_new_folder(out))
    checks.require()


def _report(out: Path, notes: tuple[str, ...], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({"model": str(out), "notes": list(notes)}))
        return
    for note in notes:
        typer.echo(f"warning: {note}", err=True)
    typer.echo(f"{out}: ready. Use it with --model {out}")
