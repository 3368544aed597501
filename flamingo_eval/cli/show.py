"""flamingo-eval show: the exact prompt of one query."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flamingo_eval.cli.options import (
    Data,
    Images,
    Json,
    Model,
    ModelArgs,
    Protocol,
    Split,
    complete_task,
    shot_numbers,
    task_list,
)

if TYPE_CHECKING:
    from flamingo_eval.backends.choice import ModelChoice
    from flamingo_eval.records import Prompt


def show(
    task: Annotated[
        str,
        typer.Argument(
            metavar="TASK|RUN", help="Task name or YAML file, or a finished run.", autocompletion=complete_task
        ),
    ],
    shots: Annotated[
        str,
        typer.Option(
            metavar="N|all", help="Number of demonstrations. Default: 4, or all if the query has its own (SMMILE)."
        ),
    ] = "",
    id: Annotated[str | None, typer.Option("--id", help="Which query of a finished run, by its id.")] = None,
    index: Annotated[int, typer.Option(min=0, help="Which query, from 0, in the file's order.")] = 0,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the demonstrations.")] = 0,
    demos: Annotated[
        str, typer.Option(help="random, balanced, fixed or official (rices needs a model: see `run`).")
    ] = "random",
    demos_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help='JSON lines with the shots of every query: {"id": ..., "shots": [...]}.'),
    ] = None,
    ablation: Annotated[str, typer.Option(help="Change the prompt as `run --ablation` does.")] = "",
    data: Data = None,
    images: Images = None,
    split: Split = None,
    protocol: Protocol = None,
    model: Model = None,
    model_args: ModelArgs = "",
    as_json: Json = False,
) -> None:
    """Print the prompt of one query exactly as the protocol writes it, then media and token count.

    Only the prompt goes to standard output. For a finished run, `show RUN --id ID` prints the prompt, the answer, the
    references and the score of a query.
    """
    from typing import cast

    from flamingo_eval.backends.choice import choose_model
    from flamingo_eval.backends.shape import default_protocol
    from flamingo_eval.cli.console import print_json, say
    from flamingo_eval.config.settings import data_choice, image_folders, load_settings
    from flamingo_eval.config.specs import DemoMethod
    from flamingo_eval.errors import DataError, UsageError
    from flamingo_eval.files import printable
    from flamingo_eval.prompting.prompts import candidate_text, render, shown
    from flamingo_eval.runs.plan import Choices, plan_runs
    from flamingo_eval.runs.questions import load_question

    if Path(task).is_dir():
        from flamingo_eval.cli.show_run import show_run

        show_run(Path(task), id, data, as_json, image_folders(images))
        return
    if id is not None:
        raise UsageError(
            f"--id {id}: {task} is not the folder of a run.", fix="Choose the query of a task with --index."
        )
    if demos not in ("random", "balanced", "fixed", "official"):
        raise UsageError(f"--demos {demos}: show supports random, balanced, fixed and official.")
    if len(tasks := task_list([task])) > 1:
        raise UsageError(f"show prints the prompt of one task, got {len(tasks)}: {', '.join(tasks)}.")
    settings = load_settings()
    choice = choose_model(model or settings.model, model_args)
    named = protocol or settings.protocol
    question = load_question(task, named or default_protocol(choice)[0], usual=not named)
    choices = Choices(
        shots=shot_numbers(shots),
        seeds=(seed,),
        demos=cast(DemoMethod, "file" if demos_file else demos),
        demos_file=demos_file,
        ablation=ablation,
        data=data_choice(data),
        images=image_folders(images),
        split=split,
    )
    if len(choices.shots) > 1:
        raise UsageError(f"--shots {shots}: show prints one prompt.", fix="Give one number.")
    (run,) = plan_runs([question], choices)
    if index >= len(run.queries):
        raise DataError(f"--index {index}: split '{run.data.queries.name}' has {len(run.queries)} queries, from 0 on.")
    episode = run.episode(index)
    prompt = render(episode, question.prompt, question.protocol, run.data.queries.candidates)
    text = shown(prompt, question.protocol)
    media = [printable(str(getattr(m, "path", m))) for m in prompt.media]
    names = episode.query.candidates or run.data.queries.candidates
    candidates = [candidate_text(c, question.prompt) for c in names]
    tokens, context = _tokens(prompt, choice)
    if as_json:
        print_json(
            {
                "id": episode.query.id,
                "prompt": text,
                "media": media,
                "shots": [s.id for s in episode.shots],
                "text_only": episode.text_only,
                "references": list(episode.query.references),
                "candidates": candidates,
                "tokens": tokens,
                "context": context,
            }
        )
        return
    print(text)
    shown_shots = ", ".join(s.id for s in episode.shots) or "none"
    say(f"query {episode.query.id}, shots {shown_shots}, {tokens} tokens of {context}")
    for i, path in enumerate(media, 1):
        say(f"  <image> {i}: {path}")
    if episode.query.references:
        say(f"  references: {'; '.join(dict.fromkeys(episode.query.references))}")
    if candidates:
        rest = f" ... ({len(candidates)} in all)" if len(candidates) > 8 else ""
        say(f"  candidates: {' |'.join(candidates[:8])}{rest}")


def _tokens(prompt: Prompt, choice: ModelChoice) -> tuple[int, int]:
    from flamingo_eval.backends.shape import shape_of

    shape = shape_of(choice)
    return shape.count_tokens(prompt), shape.context_length
