"""The options of `run` and `export` that say what is asked -> Choices: checked before any file is read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast, get_args

from flamingo_eval.cli.options import numbers, shot_numbers
from flamingo_eval.config.settings import data_choice, image_folders
from flamingo_eval.config.specs import DemoMethod, OnError, Wanted
from flamingo_eval.errors import UsageError, did_you_mean
from flamingo_eval.runs.plan import Choices


def require_known(*options: tuple[str | None, str, Sequence[str]]) -> None:
    """Each option is (value, name, known words). Raises UsageError with the nearest word for the first unknown one."""
    for value, name, known in options:
        if value is not None and value not in known:
            raise UsageError(f"{name} {value}: {did_you_mean(value, known) or 'unknown.'} One of: {', '.join(known)}.")


def chosen(
    *,
    shots: str,
    seeds: str,
    data: str | None,
    images: Sequence[str] | None,
    split: str | None,
    limit: int | None,
    demos: str,
    demos_file: Path | None,
    picture_weight: float,
    support_size: int | None,
    permutations: int | None,
    rank: str | None,
    ablation: str,
    on_error: str,
    beams: int | None,
    max_new_tokens: int | None,
    temperature: float | None,
) -> Choices:
    """What the command line says of a set of runs. Raises UsageError for words that are unknown or contradict."""
    require_known(
        (demos, "--demos", get_args(DemoMethod)),
        (rank, "--rank", get_args(Wanted)),
        (on_error, "--on-error", get_args(OnError)),
    )
    if temperature:
        raise UsageError(
            f"--temperature {temperature:g}: decoding is deterministic, nothing is sampled.",
            fix="Leave it out or give 0; --beams 1 decodes greedily.",
        )
    if demos_file is None and demos == "file":
        raise UsageError("--demos file: the file is missing.", fix="Give it with --demos-file FILE.")
    if demos_file is not None and demos not in ("random", "file"):
        raise UsageError(f"--demos {demos} and --demos-file: the file names the shots.", fix="Leave --demos out.")
    return Choices(
        shots=shot_numbers(shots),
        seeds=numbers(seeds, "--seeds"),
        demos=cast(DemoMethod, "file" if demos_file else demos),
        demos_file=demos_file,
        picture_weight=picture_weight,
        support_size=support_size,
        permutations=permutations,
        rank=cast(Wanted | None, rank),
        limit=limit,
        ablation=ablation,
        data=data_choice(data),
        images=image_folders(images),
        split=split,
        on_error=cast(OnError, on_error),
        beams=beams,
        max_new_tokens=max_new_tokens,
    )
