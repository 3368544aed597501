"""Plans the runs of a command: tasks x shots x seeds, each a PlannedRun.

Problems with names, files, splits and numbers of shots are found here; preflight.py checks media and lengths.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from flamingo_eval.config.settings import SAMPLE
from flamingo_eval.config.specs import (
    DemoMethod,
    DemoSpec,
    ModelIdentity,
    OnError,
    PromptSpec,
    ProtocolSpec,
    Resolved,
    RunSpec,
    TaskSpec,
    Wanted,
    task_label,
)
from flamingo_eval.data.roots import data_name, data_root
from flamingo_eval.data.usable import UsableExamples
from flamingo_eval.errors import UsageError
from flamingo_eval.prompting.ablations import check_ablation, check_ablation_of
from flamingo_eval.prompting.demos import Ranking
from flamingo_eval.prompting.episodes import Supports, chosen_queries, episodes_of, ranked_by_model, require_shots
from flamingo_eval.prompting.given_demos import METHODS, file_digest, official_draws, read_demos_file
from flamingo_eval.prompting.support import Given, Support, most_brought
from flamingo_eval.records import Episode, Example
from flamingo_eval.runs.preflight import check_wanted, require_letters
from flamingo_eval.runs.questions import Question
from flamingo_eval.runs.task_data import TaskData, load_data

DEFAULT_SHOTS = 4  # if no number is given and a task's shots are drawn


@dataclass(frozen=True, slots=True)
class Choices:
    """The options of a set of runs."""

    shots: tuple[int | None, ...] = ()  # None: all demonstrations of a query; (): all if queries have their own, else 4
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
    features: str = ""  # of RICES by another model's features: runs.backend.features_label
    beams: int | None = None  # None: the protocol's, or the task's
    max_new_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class PlannedRun(Resolved):
    """One run before its model is loaded. Its episodes are made when needed."""

    question: Question
    demos: DemoSpec
    choices: Choices
    data: TaskData
    queries: tuple[Example, ...]  # those of the run, in file order
    supports: Supports
    data_name: str  # the data's name in a record: `sample`, `sample:7` or the name of the folder

    @property
    def task(self) -> TaskSpec:
        return self.question.task

    @property
    def protocol(self) -> ProtocolSpec:
        return self.question.protocol

    @property
    def prompt(self) -> PromptSpec:
        return self.question.prompt

    @property
    def limit(self) -> int | None:
        return self.choices.limit

    @property
    def ablation(self) -> str:
        return self.choices.ablation

    @property
    def on_error(self) -> OnError:
        return self.choices.on_error

    @property
    def task_label(self) -> str:
        return task_label(self.task, self.data_name)

    @property
    def key(self) -> tuple[str, int, int]:
        """Distinguishes it from the other runs of its command."""
        return self.task_label, self.demos.shots, self.demos.seed

    @property
    def ranked_by_model(self) -> bool:
        """Whether the model chooses the demonstrations (RICES)."""
        return ranked_by_model(self)

    @property
    def support(self) -> Support | None:
        """The support set of its shots."""
        return self.supports.of(self.demos)

    def episodes(
        self, ranking: Ranking | None = None, every: int = 1, excluded_ids: Collection[str] = ()
    ) -> Iterator[Episode]:
        """Its episodes, or those of every n-th query; `excluded_ids`: queries that are left out.

        `ranking`: the model's, if it chooses the shots.
        """
        queries = self.queries[::every]
        if excluded_ids:
            queries = tuple(e for e in queries if e.id not in excluded_ids)
        return episodes_of(self, queries, self.support, ranking)

    def episode(self, index: int) -> Episode:
        """The episode of one query."""
        (episode,) = episodes_of(self, self.queries[index : index + 1], self.support)
        return episode

    def spec(self, model: ModelIdentity) -> RunSpec:
        """The resolved spec of the run with a model."""
        return RunSpec(
            task=self.task,
            protocol=self.protocol,
            prompt=self.prompt,
            demos=self.demos,
            model=model.name,
            model_sha256=model.sha256,
            data=self.data_name,
            split=self.data.queries.name,
            device=model.device,
            dtype=model.dtype,
            limit=self.limit,
            ablation=self.ablation,
            on_error=self.on_error,
        )


def _chosen(question: Question, choices: Choices) -> Question:
    """The question with decoding and ranking changed by the choices."""
    task, prompt = question.task, question.prompt
    generates = task.mode == "open-ended"
    if generates and choices.beams is not None:
        prompt = replace(prompt, decode=replace(prompt.decode, beams=choices.beams))
    if generates and choices.max_new_tokens is not None:
        prompt = replace(prompt, decode=replace(prompt.decode, max_new_tokens=choices.max_new_tokens))
    if choices.permutations is not None:
        prompt = replace(prompt, rank=replace(prompt.rank, permutations=choices.permutations))
    if task.mode == "close-ended" and choices.rank not in (None, prompt.rank.wanted or task.rank.wanted):
        if "letter" in (choices.rank, prompt.rank.wanted):
            raise UsageError(
                f"{task.name}, --rank {choices.rank}: protocol {question.protocol.name} is made for "
                f"--rank {prompt.rank.wanted or 'all'}.",
                fix="Leave --rank out, or choose another --protocol.",
            )
        prompt = replace(prompt, rank=replace(prompt.rank, wanted=choices.rank))
    return replace(question, prompt=prompt)


def _within(task: TaskSpec, choices: Choices) -> bool:
    """Whether some number of shots that is asked for is within the task's maximum."""
    return any(k is None or task.max_shots is None or k <= task.max_shots for k in choices.shots or (DEFAULT_SHOTS,))


def _limit(task: TaskSpec) -> str:
    """Why none of the numbers of shots asked for is run."""
    if task.max_shots is None:
        return f"{task.name}: no query has this many demonstrations. --shots all uses all of them."
    return f"{task.name} goes up to {task.max_shots} shots: {task.notes}".strip()


def _shots_of(task: TaskSpec, data: TaskData, choices: Choices) -> list[int]:
    """The requested numbers of shots, up to the limits of the task and of the queries' own demonstrations.

    Raises UsageError if all of a query's demonstrations are requested and the task's shots are drawn.
    """
    brought = most_brought(data.queries.examples)
    if None in choices.shots and brought is None:
        raise UsageError(
            f"--shots all: {task.name} draws its shots; its queries have none of their own.",
            fix="Give numbers, as --shots 0,4.",
        )
    requested = choices.shots or ((DEFAULT_SHOTS,) if brought is None else (None,))
    numbers = dict.fromkeys(brought if k is None else k for k in requested)
    most = min((n for n in (task.max_shots, brought) if n is not None), default=None)
    return [k for k in numbers if k is not None and (most is None or k <= most)]


def _given(task: TaskSpec, data: TaskData, choices: Choices, shots: Sequence[int]) -> Given:
    """Fixed demonstrations: those of a file, or those that the benchmark prescribes."""
    if data.support is None:
        raise UsageError(f"{task.name} has no split for demonstrations.", fix="Run it with --shots 0.")
    if choices.demos_file is not None:
        return read_demos_file(choices.demos_file, data.queries, data.support)
    return official_draws(task, data.queries, data.support, shots)


def _check_decoding(questions: Sequence[Question], choices: Choices) -> None:
    """Raise UsageError for decoding options if no task generates text."""
    options = (("--beams", choices.beams), ("--max-new-tokens", choices.max_new_tokens))
    given_options = [name for name, value in options if value is not None]
    if given_options and all(q.task.mode == "close-ended" for q in questions):
        raise UsageError(f"{' and '.join(given_options)}: {_names(questions)} ranks candidates, no text is generated.")


def _check_rank(questions: Sequence[Question], choices: Choices) -> None:
    """Raise UsageError for every task whose metrics need all scores, or if no task has candidates."""
    if choices.rank is not None and all(q.task.mode == "open-ended" for q in questions):
        raise UsageError(f"--rank {choices.rank}: {_names(questions)} generates text, there are no candidates to rank.")
    problems: list[str] = []
    for question in questions:
        try:
            check_wanted(question.task, question.rank)
        except UsageError as error:
            problems.append(str(error))
    if problems:
        raise UsageError("\n".join(problems))


def _names(questions: Sequence[Question]) -> str:
    return ", ".join(q.task.name for q in questions)


def plan_runs(questions: Sequence[Question], choices: Choices) -> list[PlannedRun]:
    """Every run of the command, in the order of tasks, shots and seeds. Raises before any model is loaded.

    Numbers of shots above a task's maximum are skipped, as in the paper's tables, unless no run remains.
    """
    check_ablation(choices.ablation)
    if choices.features and not choices.demos.startswith("rices"):
        raise UsageError(
            f"--features-of: --demos {choices.demos} compares no features.", fix="Add --demos rices, or leave it out."
        )
    questions = [_chosen(question, choices) for question in questions]
    _check_rank(questions, choices)
    _check_decoding(questions, choices)
    runs: list[PlannedRun] = []
    limits: list[str] = []
    for question in questions:
        of_task = list(_runs_of(question, choices)) if _within(question.task, choices) else []
        runs += of_task
        if not of_task:
            limits.append(_limit(question.task))
    if not runs:
        raise UsageError("\n".join(limits))
    require_letters(runs)
    return runs


def _runs_of(question: Question, choices: Choices) -> Iterator[PlannedRun]:
    """The runs of one task, over data that is read once; none where fewer shots are the most there are."""
    task = question.task
    root = data_root(question.data or choices.data, task.name, choices.images)
    name = data_name(question.data or choices.data, task.name)
    data = load_data(task, root, choices.split, ablation=choices.ablation)
    shots = _shots_of(task, data, choices)
    most = most_brought(data.queries.examples)
    check_ablation_of(task, choices.ablation, data.support)
    has_fixed_rows = choices.demos in METHODS  # the rows are fixed: nothing is drawn, so there is no support set
    if has_fixed_rows:
        data = replace(data, given=_given(task, data, choices, shots))
    queries = chosen_queries(data.queries, task.name, choices.limit, choices.ablation)
    usable = UsableExamples() if choices.on_error == "skip" else None
    supports = Supports(task.name, data.support, data.given, usable)
    for k in shots:
        for seed in choices.seeds:
            demos = replace(_demos(task, choices, k, seed, shots), every=k > 0 and k == most)
            run = PlannedRun(question, demos, choices, data, queries, supports, name)
            if has_fixed_rows:
                for _ in run.episodes():  # raises, before a model is loaded, if a query has no shots or too few
                    pass
            else:
                require_shots(run, queries, run.support)
            yield run


def _demos(task: TaskSpec, choices: Choices, shots: int, seed: int, shot_counts: Sequence[int]) -> DemoSpec:
    size = task.support_size if choices.support_size is None else choices.support_size
    if choices.demos not in METHODS:
        weight, features = choices.picture_weight, choices.features
        return DemoSpec(choices.demos, shots, seed, size, task.support_per_class, weight, features=features)
    source = file_digest(choices.demos_file) if choices.demos_file else f"shots {','.join(map(str, shot_counts))}"
    return DemoSpec(choices.demos, shots, seed, support_size=0, support_per_class=0, given=source)
