"""The options of `run` and `export` about tasks and prompts -> Choices, checked before any file is read."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast, get_args

from flamingo_eval.cli.option_checks import Checks, check_in_file, require_known
from flamingo_eval.cli.options import PlanOptions, numbers, shot_numbers
from flamingo_eval.config.settings import data_choice, image_folders, require_folders
from flamingo_eval.config.specs import DemoMethod, OnError, Wanted
from flamingo_eval.errors import UsageError

if TYPE_CHECKING:
    from flamingo_eval.runs.plan import Choices


def check_plan(options: PlanOptions) -> None:
    """Raise UsageError for unknown words and options that contradict each other; nothing heavy is imported for it."""
    checks = Checks()
    for option in (
        (options.demos, "--demos", get_args(DemoMethod)),
        (options.rank, "--rank", get_args(Wanted)),
        (options.on_error, "--on-error", get_args(OnError)),
    ):
        checks.attempt(lambda option=option: require_known(option))  # type: ignore[misc]
    if options.temperature:
        checks.add(
            UsageError(
                f"--temperature {options.temperature:g}: decoding is deterministic, there is no sampling.",
                fix="Leave it out or give 0; --beams 1 decodes greedily.",
            )
        )
    if options.demos_file is not None:
        file = options.demos_file
        checks.attempt(lambda: check_in_file(file, "--demos-file"))
    if options.demos_file is None and options.demos == "file":
        checks.add(UsageError("--demos file: the file is missing.", fix="Give it with --demos-file FILE."))
    if options.demos_file is not None and options.demos not in ("random", "file"):
        checks.add(
            UsageError(f"--demos {options.demos} and --demos-file: the file names the shots.", fix="Leave --demos out.")
        )
    checks.attempt(lambda: require_folders(data_choice(options.data), image_folders(options.images)))
    if options.ablation:
        from flamingo_eval.prompting.ablations import check_ablation

        checks.attempt(lambda: check_ablation(options.ablation))
    checks.attempt(lambda: shot_numbers(options.shots))
    checks.attempt(lambda: numbers(options.seeds, "--seeds"))
    checks.require()


def chosen(options: PlanOptions) -> Choices:
    """The choices of a set of runs. Raises UsageError as `check_plan`."""
    from flamingo_eval.runs.plan import Choices

    check_plan(options)
    return Choices(
        shots=shot_numbers(options.shots),
        seeds=numbers(options.seeds, "--seeds"),
        demos=cast(DemoMethod, "file" if options.demos_file else options.demos),
        demos_file=options.demos_file,
        picture_weight=options.picture_weight,
        support_size=options.support_size,
        permutations=options.permutations,
        rank=cast(Wanted | None, options.rank),
        limit=options.limit,
        ablation=options.ablation,
        data=data_choice(options.data),
        images=image_folders(options.images),
        split=options.split,
        on_error=cast(OnError, options.on_error),
        beams=options.beams,
        max_new_tokens=options.max_new_tokens,
    )
