"""The options of `run` and `export` about tasks and prompts -> Choices, checked before any file is read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast, get_args

from flamingo_eval.cli.option_checks import Checks, check_in_file, require_known
from flamingo_eval.cli.options import numbers, shot_numbers
from flamingo_eval.config.settings import data_choice, image_folders
from flamingo_eval.config.specs import DemoMethod, OnError, Wanted
from flamingo_eval.data.roots import require_folders
from flamingo_eval.errors import UsageError
from flamingo_eval.prompting.ablations import check_ablation
from flamingo_eval.runs.plan import Choices


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
    """The choices of a set of runs. Raises UsageError for unknown words and options that contradict each other."""
    checks = Checks()
    for option in (
        (demos, "--demos", get_args(DemoMethod)),
        (rank, "--rank", get_args(Wanted)),
        (on_error, "--on-error", get_args(OnError)),
    ):
        checks.attempt(lambda option=option: require_known(option))  # type: ignore[misc]
    if temperature:
        checks.add(
            UsageError(
                f"--temperature {temperature:g}: decoding is deterministic, there is no sampling.",
                fix="Leave it out or give 0; --beams 1 decodes greedily.",
            )
        )
    if demos_file is not None:
        file = demos_file
        checks.attempt(lambda: check_in_file(file, "--demos-file"))
    if demos_file is None and demos == "file":
        checks.add(UsageError("--demos file: the file is missing.", fix="Give it with --demos-file FILE."))
    if demos_file is not None and demos not in ("random", "file"):
        checks.add(UsageError(f"--demos {demos} and --demos-file: the file names the shots.", fix="Leave --demos out."))
    checks.attempt(lambda: require_folders(data_choice(data), image_folders(images)))
    if ablation:
        checks.attempt(lambda: check_ablation(ablation))
    shots_asked = checks.attempt(lambda: shot_numbers(shots)) or ()
    seed_numbers = checks.attempt(lambda: numbers(seeds, "--seeds")) or ()
    checks.require()
    return Choices(
        shots=shots_asked,
        seeds=seed_numbers,
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
