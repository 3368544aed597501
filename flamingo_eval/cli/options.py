"""Options that several commands share, written once."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from flamingo_eval.errors import UsageError


def complete_task(incomplete: str) -> list[str]:
    """Task names with this prefix, for shell completion."""
    from flamingo_eval.config.groups import group_names
    from flamingo_eval.config.names import task_names

    return [name for name in (*group_names(), *task_names()) if name.startswith(incomplete)]


def complete_protocol(incomplete: str) -> list[str]:
    """Protocol names with this prefix, for shell completion."""
    from flamingo_eval.config.names import protocol_names

    return [name for name in protocol_names() if name.startswith(incomplete)]


def complete_ablation(incomplete: str) -> list[str]:
    """Names of ablations with this prefix, for shell completion."""
    from flamingo_eval.prompting.ablations import ABLATION_NAMES

    return [name for name in ABLATION_NAMES if name.startswith(incomplete)]


def complete_demos(incomplete: str) -> list[str]:
    """Methods of choosing demonstrations with this prefix, for shell completion."""
    from typing import get_args

    from flamingo_eval.config.specs import DemoMethod

    return [name for name in get_args(DemoMethod) if name.startswith(incomplete)]


def complete_published(incomplete: str) -> list[str]:
    """Models with published scores and this prefix, for shell completion."""
    from flamingo_eval.report.published import models

    return [name for name in models() if name.lower().startswith(incomplete.lower())]


def one_of(*names: str) -> Callable[[str], list[str]]:
    """A shell completion from a few fixed words."""
    return lambda incomplete: [name for name in names if name.startswith(incomplete)]


Task = Annotated[str, typer.Argument(metavar="TASK", help="Task name or YAML file.", autocompletion=complete_task)]
Data = Annotated[
    str | None,
    typer.Option("--data", metavar="DIR", help="Folder with the official files; default: the embedded sample."),
]
Images = Annotated[
    list[str] | None,
    typer.Option("--images", metavar="DIR", help="Folder of the pictures or clips, if elsewhere; repeatable."),
]
Split = Annotated[str | None, typer.Option("--split", help="Split of the queries; default: the task's own.")]
Protocol = Annotated[
    str | None,
    typer.Option(
        "--protocol",
        help="How prompts are written: flamingo, openflamingo, idefics, chat, chat:VARIANT, or a folder.",
        autocompletion=complete_protocol,
    ),
]
Model = Annotated[
    str | None,
    typer.Option(
        metavar="MODEL",
        help="tiny, a checkpoint folder, or hf:FOLDER|NAME, openai:URL, or FILE.py:CLASS; default: tiny.",
    ),
]
ModelArgs = Annotated[
    str,
    typer.Option(
        metavar="K=V,...", help="Options of a model, e.g. max_pixels=401408 (hf:), model=NAME,concurrency=16 (openai:)."
    ),
]
Tasks = Annotated[
    list[str] | None,
    typer.Argument(metavar="TASK...", help="Task names, YAML files, or `all`.", autocompletion=complete_task),
]
Shots = Annotated[
    str,
    typer.Option(
        "--shots",
        metavar="N,...|all",
        help="Numbers of demonstrations, as 0,4,8,16,32; all: those that belong to each query (SMMILE). "
        "Default: 4, or all if queries have their own.",
    ),
]
Seeds = Annotated[str, typer.Option("--seeds", help="Seeds of the demonstrations, as 0,1,2.")]
Limit = Annotated[
    int | None, typer.Option("--limit", min=1, help="Run at most this many queries, the same for all seeds.")
]
Demos = Annotated[
    str,
    typer.Option(
        "--demos",
        help="random, balanced, rices, rices-text, rices-both, fixed, or official: a benchmark's own draws.",
        autocompletion=complete_demos,
    ),
]
DemosFile = Annotated[
    Path | None,
    typer.Option(
        "--demos-file", metavar="FILE", help='JSON lines with the shots of every query: {"id": ..., "shots": [...]}.'
    ),
]
PictureWeight = Annotated[
    float,
    typer.Option("--picture-weight", min=0, max=1, help="rices-both: weight of the picture; the rest is the text."),
]
SupportSize = Annotated[
    int | None,
    typer.Option(
        "--support-size", min=0, help="Support examples drawn per seed; 0: the whole split. Default: the task's."
    ),
]
Permutations = Annotated[
    int | None,
    typer.Option("--permutations", min=1, help="Close-ended: average over this many orders of the shots (paper: 6)."),
]
Rank = Annotated[
    str | None,
    typer.Option(
        "--rank",
        help="Close-ended: score all candidates, find only the best, or ask for a letter. Default: the task's.",
        autocompletion=one_of("all", "best", "letter"),
    ),
]
Ablation = Annotated[
    str,
    typer.Option(
        "--ablation",
        help="Change the prompts, e.g. labels-shuffled, query-images-shuffled.",
        autocompletion=complete_ablation,
    ),
]
OnErrorChoice = Annotated[str, typer.Option("--on-error", help="stop, or skip: failed queries are counted and listed.")]
Beams = Annotated[
    int | None,
    typer.Option("--beams", min=1, help="Open-ended: number of beams; 1 is greedy. Default: the protocol's."),
]
MaxNewTokens = Annotated[
    int | None,
    typer.Option("--max-new-tokens", min=1, help="Open-ended: longest answer in tokens. Default: the task's."),
]
Temperature = Annotated[
    float | None, typer.Option("--temperature", help="0, the only value: decoding is deterministic.")
]
Json = Annotated[bool, typer.Option("--json", help="Print only the result, as JSON.")]
OutFile = Annotated[
    Path | None, typer.Option("--out", metavar="FILE", help="Write to this file instead of the terminal.")
]


@dataclasses.dataclass(frozen=True, slots=True)
class PlanOptions:
    """What decides the runs and their prompts, as it was typed: the same options of `run` and `export`.

    choices.py checks them.
    """

    shots: Shots = ""
    seeds: Seeds = "0"
    data: Data = None
    images: Images = None
    split: Split = None
    limit: Limit = None
    demos: Demos = "random"
    demos_file: DemosFile = None
    picture_weight: PictureWeight = 0.5
    support_size: SupportSize = None
    permutations: Permutations = None
    rank: Rank = None
    ablation: Ablation = ""
    on_error: OnErrorChoice = "stop"
    beams: Beams = None
    max_new_tokens: MaxNewTokens = None
    temperature: Temperature = None


def spread(command: Callable[..., None]) -> Callable[..., None]:
    """A command whose parameters of a dataclass are given as one option for each field.

    Typer reads a command's signature: that of the result has the fields in the place of the dataclass.
    """
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, Any] = {name: kind for name, kind in hints.items() if dataclasses.is_dataclass(kind)}
    parameters: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(command).parameters.items():
        if name not in groups:
            parameters.append(parameter.replace(annotation=hints[name], kind=inspect.Parameter.KEYWORD_ONLY))
            continue
        kinds = get_type_hints(groups[name], include_extras=True)
        parameters += [
            inspect.Parameter(f.name, inspect.Parameter.KEYWORD_ONLY, default=f.default, annotation=kinds[f.name])
            for f in dataclasses.fields(groups[name])
        ]

    def call(**values: Any) -> None:
        for name, kind in groups.items():
            values[name] = kind(**{field.name: values.pop(field.name) for field in dataclasses.fields(kind)})
        command(**values)

    call.__name__, call.__doc__ = command.__name__, command.__doc__
    call.__annotations__ = {p.name: p.annotation for p in parameters}
    vars(call)["__signature__"] = inspect.Signature(parameters)
    return call


MOST_WRITTEN = 32  # numbers of a range that are written out in a hint


def numbers(text: str, what: str) -> tuple[int, ...]:
    """`0,4,8` -> (0, 4, 8), in order and without repetition. Raises UsageError."""
    values: list[int] = []
    for word in text.split(","):
        if not word.strip().isdecimal():
            example = "0,1,2" if what == "--seeds" else "0,4,8"
            invalid = "" if word.strip() == text.strip() else f" ('{word.strip()}')"
            raise UsageError(
                f"invalid value for {what}: '{text}'{invalid}. Expected integers, for example {example}.",
                fix=_with_commas(text),
            )
        values.append(int(word))
    return tuple(dict.fromkeys(values))


def _with_commas(text: str) -> str:
    """`Write 4,5,6.` for `4-6`, and `Write 4,8.` for numbers with something else between them than a comma."""
    span = re.fullmatch(r"\s*(\d{1,6})\s*(?:-|\.\.|:)\s*(\d{1,6})\s*", text)
    if span is not None and int(span[1]) < int(span[2]) <= int(span[1]) + MOST_WRITTEN:
        return f"Write {','.join(map(str, range(int(span[1]), int(span[2]) + 1)))}."
    several = re.fullmatch(r"[\s\[(]*\d+(?:[\s;,/+|]+\d+)+[\s\])]*", text)
    return f"Write {','.join(re.findall(r'[0-9]+', text))}." if several is not None else ""


def shot_numbers(text: str) -> tuple[int | None, ...]:
    """`0,4` -> (0, 4); `all` is None, all demonstrations of a query; "" is (), the task's default.

    Raises UsageError.
    """
    words = [word.strip() for word in text.split(",")] if text else []
    if "all" not in words:
        return numbers(text, "--shots") if text else ()
    return tuple(dict.fromkeys(None if word == "all" else numbers(word, "--shots")[0] for word in words))


def task_list(words: Sequence[str]) -> list[str]:
    """Tasks from the command line, as separate arguments or separated by commas: `vqav2,coco` is two tasks.

    Commas in the name of a file, or in the dials of a fresh copy (`@`), do not separate.
    """
    tasks: list[str] = []
    for word in words:
        is_path = "@" in word or Path(word).exists()
        tasks += [word] if is_path else [name.strip() for name in word.split(",") if name.strip()]
    if not tasks:
        raise UsageError("the task is missing.", fix="Give one, for example vqav2: see `flamingo-eval list tasks`.")
    return tasks
