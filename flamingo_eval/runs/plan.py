"""From what the user asked to the runs that answer it: tasks x shots x seeds, each a resolved RunSpec.

Everything that can be wrong before a model is loaded is found here: names, files, splits, too few shots, media.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from flamingo_eval.config.groups import expanded, group_names
from flamingo_eval.config.load import load_prompt, load_protocol
from flamingo_eval.config.names import NoPromptError, find_prompt, find_protocol, find_task
from flamingo_eval.config.settings import FRESH, SAMPLE
from flamingo_eval.config.specs import (
    DemoMethod,
    DemoSpec,
    OnError,
    PromptSpec,
    ProtocolSpec,
    RunSpec,
    TaskSpec,
    Wanted,
)
from flamingo_eval.data.roots import data_name, data_root
from flamingo_eval.data.task_file import load_task
from flamingo_eval.errors import ConfigError, FlamingoEvalError, MissingDependency, UsageError, did_you_mean
from flamingo_eval.metrics import require_installed
from flamingo_eval.prompting.ablations import check_ablation
from flamingo_eval.prompting.demos import Given
from flamingo_eval.prompting.given_demos import METHODS, file_digest, official_draws, read_demos_file
from flamingo_eval.prompting.okvqa_stem import require_stemming
from flamingo_eval.prompting.prompts import with_variant
from flamingo_eval.records import Episode
from flamingo_eval.runs.answer import check_wanted
from flamingo_eval.runs.runner import TaskData, episodes_of, load_data


@dataclass(frozen=True, slots=True)
class Question:
    """A task and how it is asked."""

    task: TaskSpec
    protocol: ProtocolSpec
    prompt: PromptSpec
    data: str = ""  # a fresh copy that this task names: `sample:7`; empty: what the command chose


@dataclass(frozen=True, slots=True)
class Choices:
    """What the command line says about a set of runs."""

    shots: tuple[int, ...] = (4,)
    seeds: tuple[int, ...] = (0,)
    demos: DemoMethod = "random"
    support_size: int | None = None
    permutations: int | None = None
    rank: Wanted | None = None
    limit: int | None = None
    ablation: str = ""
    data: str = SAMPLE
    images: tuple[str, ...] = ()  # folders of pictures besides the data root's
    split: str | None = None
    on_error: OnError = "stop"
    demos_file: Path | None = None  # with demos "file"
    picture_weight: float = 0.5  # of rices-both


@dataclass(frozen=True, slots=True)
class Job:
    """One run to be done: its spec (the model still open), its data, its episodes if they need no model."""

    spec: RunSpec
    data: TaskData
    episodes: tuple[Episode, ...] | None


def load_question(task: str, protocol: str) -> Question:
    """Read a task's YAML and its prompt in a protocol's folder; `protocol` may end in `:VARIANT`.

    `vl_icl_clevr@sample:7` names a fresh copy of a task.
    """
    plain, data = named_copy(task)
    spec = load_task(find_task(plain))
    name, _, variant = protocol.partition(":") if not Path(protocol).is_dir() else (protocol, "", "")
    folder = find_protocol(name)
    told = load_protocol(folder / "protocol.yaml")
    prompt = load_prompt(find_prompt(folder, spec.prompt))
    if variant and variant not in told.variants:
        known = ", ".join(told.variants) or "none"
        hint = did_you_mean(variant, told.variants)
        raise ConfigError(
            f"protocol '{told.name}' has no variant '{variant}'. {hint}".rstrip(), fix=f"Its variants: {known}."
        )
    named = f"{told.name}:{variant}" if variant else told.name
    return Question(spec, replace(told, name=named, variants={}), with_variant(prompt, variant), data)


def named_copy(task: str) -> tuple[str, str]:
    """`vl_icl_clevr@sample:7` -> the task and its data; another text is a task alone."""
    name, _, copy = task.rpartition(f"@{FRESH}")
    return (name, f"{FRESH}{copy}") if name else (task, "")


def load_questions(tasks: Sequence[str], protocol: str) -> tuple[list[Question], list[str]]:
    """The questions of the tasks, each once, and remarks. All that is wrong with any of them is in one error.

    A group (`all`, `vl_icl`, ...) means those of its tasks that the protocol covers. What it leaves out, and what it
    can answer but not score here, is in the remarks; of a task that is asked for by name both are errors, before a
    model is loaded.
    """
    named = tuple(dict.fromkeys(t for t in tasks if t not in group_names()))
    others = expanded([t for t in tasks if t in group_names()])
    questions: dict[str, Question] = {}
    errors: list[FlamingoEvalError] = []
    remarks: list[str] = []
    for task in dict.fromkeys((*named, *others)):
        try:
            question = load_question(task, protocol)
            if question.prompt.clean.stem_okvqa:
                require_stemming()
        except (NoPromptError, MissingDependency) as error:
            if task in named:
                errors.append(error)
            else:
                remarks.append(f"{task} is left out: {_line(error)}")
            continue
        except FlamingoEvalError as error:
            errors.append(error)
            continue
        missing = _missing_scorers(question)
        if missing and task in named:
            errors.extend(missing)
            continue
        remarks += [f"{task}: answered, not scored: {_what(m)} `flamingo-eval doctor` shows the fix" for m in missing]
        questions[task] = question
    if errors:
        texts = dict.fromkeys(str(e) for e in errors)
        raise errors[0] if len(texts) == 1 else type(errors[0])("\n".join(texts))
    return list(questions.values()), remarks


def _line(error: FlamingoEvalError) -> str:
    return " ".join(str(error).split())


def _what(error: FlamingoEvalError) -> str:
    """The first line of a message, without the list and the fix."""
    return str(error).split("\n")[0]


def _missing_scorers(question: Question) -> list[MissingDependency]:
    """What the task's metrics need and this machine does not have."""
    missing = []
    for metric in question.task.metrics:
        try:
            require_installed(metric.name)
        except MissingDependency as error:
            missing.append(error)
    return missing


def spec_of(question: Question, choices: Choices, shots: int, seed: int, split: str) -> RunSpec:
    """The resolved spec of one run, without the model's identity."""
    task, prompt = question.task, question.prompt
    if choices.permutations is not None:
        prompt = replace(prompt, rank=replace(prompt.rank, permutations=choices.permutations))
    if task.mode == "close-ended" and choices.rank not in (None, prompt.rank.wanted or task.rank.wanted):
        prompt = replace(prompt, rank=replace(prompt.rank, wanted=choices.rank))
    size = task.support_size if choices.support_size is None else choices.support_size
    demos = DemoSpec(choices.demos, shots, seed, size, task.support_per_class, choices.picture_weight)
    if choices.demos in METHODS:  # the rows are named: nothing is drawn, so no support set either
        over = ",".join(map(str, _shots_of(task, choices)))
        given = file_digest(choices.demos_file) if choices.demos_file else f"shots {over}"
        demos = replace(demos, support_size=0, support_per_class=0, given=given)
    return RunSpec(
        task=task,
        protocol=question.protocol,
        prompt=prompt,
        demos=demos,
        model="",
        model_sha256="",
        data=data_name(question.data or choices.data, task.name),
        split=split,
        limit=choices.limit,
        ablation=choices.ablation,
        on_error=choices.on_error,
    )


def _shots_of(task: TaskSpec, choices: Choices) -> list[int]:
    return [k for k in choices.shots if task.max_shots is None or k <= task.max_shots]


def _given(task: TaskSpec, data: TaskData, choices: Choices) -> Given:
    """The demonstrations that are data: those of the file, or those that the benchmark prescribes."""
    if data.support is None:
        raise UsageError(f"{task.name} has no split to take demonstrations from.", fix="Run it with --shots 0.")
    if choices.demos_file is not None:
        return read_demos_file(choices.demos_file, data.queries, data.support)
    return official_draws(task, data.queries, data.support, _shots_of(task, choices))


def _check_rank(questions: Sequence[Question], choices: Choices) -> None:
    """Raise UsageError for every task that the best candidate alone does not suffice for, and where no task has any."""
    if choices.rank is not None and all(q.task.mode == "open-ended" for q in questions):
        raise UsageError(
            f"--rank {choices.rank}: {_names(questions)} asks for text, not for the best of some candidates."
        )
    problems: list[str] = []
    for question in questions:
        try:
            check_wanted(spec_of(question, choices, shots=0, seed=0, split=""))
        except UsageError as error:
            problems.append(str(error))
    if problems:
        raise UsageError("\n".join(problems))


def _names(questions: Sequence[Question]) -> str:
    return ", ".join(q.task.name for q in questions)


def plan_jobs(questions: Sequence[Question], choices: Choices) -> list[Job]:
    """Every run of the command, in the order of tasks, shots and seeds. Raises before any model is loaded.

    Numbers of shots beyond a task's maximum are passed over, as in the paper's tables, unless nothing remains to run.
    """
    check_ablation(choices.ablation)
    _check_rank(questions, choices)
    jobs: list[Job] = []
    for question in questions:
        task = question.task
        shots = _shots_of(task, choices)
        if not shots:
            continue
        root = data_root(question.data or choices.data, task.name, choices.images)
        data = load_data(task, root, choices.split)
        if choices.demos in METHODS:
            data = replace(data, given=_given(task, data, choices))
        for k in shots:
            for seed in choices.seeds:
                spec = spec_of(question, choices, k, seed, data.queries.name)
                by_model = choices.demos.startswith("rices") and (k or spec.text_only_shots)
                episodes = None if by_model else tuple(episodes_of(spec, data))
                jobs.append(Job(spec, data, episodes))
    if not jobs:
        tasks = [q.task for q in questions]
        raise UsageError("\n".join(f"{t.name} goes up to {t.max_shots} shots: {t.notes}".strip() for t in tasks))
    return jobs
