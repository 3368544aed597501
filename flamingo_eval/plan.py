"""From what the user asked to the runs that answer it: tasks x shots x seeds, each a resolved RunSpec.

Everything that can be wrong before a model is loaded is found here: names, files, splits, too few shots, media.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from flamingo_eval.ablations import check_ablation
from flamingo_eval.config import load_prompt, load_protocol, load_task
from flamingo_eval.errors import FlamingoEvalError, UsageError
from flamingo_eval.find import find_prompt, find_protocol, find_task, task_names
from flamingo_eval.records import Episode
from flamingo_eval.runner import TaskData, episodes_of, load_data
from flamingo_eval.settings import SAMPLE, data_root
from flamingo_eval.specs import DemoMethod, DemoSpec, OnError, PromptSpec, ProtocolSpec, RunSpec, TaskSpec


@dataclass(frozen=True, slots=True)
class Question:
    """A task and how it is asked."""

    task: TaskSpec
    protocol: ProtocolSpec
    prompt: PromptSpec


@dataclass(frozen=True, slots=True)
class Choices:
    """What the command line says about a set of runs."""

    shots: tuple[int, ...] = (4,)
    seeds: tuple[int, ...] = (0,)
    demos: DemoMethod = "random"
    support_size: int | None = None
    permutations: int | None = None
    limit: int | None = None
    ablation: str = ""
    data: str = SAMPLE
    split: str | None = None
    on_error: OnError = "stop"


@dataclass(frozen=True, slots=True)
class Job:
    """One run to be done: its spec (the model still open), its data, its episodes if they need no model."""

    spec: RunSpec
    data: TaskData
    episodes: tuple[Episode, ...] | None


def load_question(task: str, protocol: str) -> Question:
    """Read a task's YAML and its prompt in a protocol's folder."""
    spec = load_task(find_task(task))
    folder = find_protocol(protocol)
    return Question(spec, load_protocol(folder / "protocol.yaml"), load_prompt(find_prompt(folder, spec.prompt)))


def expand(tasks: Sequence[str]) -> tuple[str, ...]:
    """`all` -> every task known by name; otherwise the names as given, each once."""
    return tuple(dict.fromkeys(t for name in tasks for t in (task_names() if name == "all" else [name])))


def load_questions(tasks: Sequence[str], protocol: str) -> list[Question]:
    """The questions of all tasks; every task that cannot be read is in one error."""
    questions, errors = [], []
    for task in tasks:
        try:
            questions.append(load_question(task, protocol))
        except FlamingoEvalError as error:
            errors.append(error)
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise type(errors[0])("\n".join(str(e) for e in errors))
    return questions


def spec_of(question: Question, choices: Choices, shots: int, seed: int, split: str) -> RunSpec:
    """The resolved spec of one run, without the model's identity."""
    task, prompt = question.task, question.prompt
    if choices.permutations is not None:
        prompt = replace(prompt, rank=replace(prompt.rank, permutations=choices.permutations))
    size = task.support_size if choices.support_size is None else choices.support_size
    demos = DemoSpec(choices.demos, shots, seed, size, task.support_per_class)
    return RunSpec(
        task=task,
        protocol=question.protocol,
        prompt=prompt,
        demos=demos,
        model="",
        model_sha256="",
        data=SAMPLE if choices.data == SAMPLE else Path(choices.data).name,
        split=split,
        limit=choices.limit,
        ablation=choices.ablation,
        on_error=choices.on_error,
    )


def plan_jobs(questions: Iterable[Question], choices: Choices) -> list[Job]:
    """Every run of the command, in the order of tasks, shots and seeds. Raises before any model is loaded."""
    check_ablation(choices.ablation)
    jobs: list[Job] = []
    for question in questions:
        task = question.task
        shots = [k for k in choices.shots if task.max_shots is None or k <= task.max_shots]
        if not shots:
            raise UsageError(f"{task.name} goes up to {task.max_shots} shots: {task.notes}".strip())
        data = load_data(task, data_root(choices.data, task.name), choices.split)
        for k in shots:
            for seed in choices.seeds:
                spec = spec_of(question, choices, k, seed, data.queries.name)
                by_model = choices.demos.startswith("rices") and (k or spec.text_only_shots)
                episodes = None if by_model else tuple(episodes_of(spec, data))
                jobs.append(Job(spec, data, episodes))
    return jobs
