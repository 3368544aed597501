"""Plans the runs of a command: tasks x shots x seeds, each a PlannedRun.

Problems with names, files, splits and numbers of shots are found here; preflight.py checks media and lengths.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from flamingo_eval.config.groups import expanded, group_names
from flamingo_eval.config.load import load_prompt
from flamingo_eval.config.names import PROTOCOL_FILE, find_protocol, find_task, is_task_file, protocol_names
from flamingo_eval.config.protocols import NoPromptError, find_prompt, load_protocol, prompt_files, protocol_chain
from flamingo_eval.config.settings import FRESH, SAMPLE
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
from flamingo_eval.data.task_file import load_task, use_own_metrics
from flamingo_eval.data.usable import UsableExamples
from flamingo_eval.errors import ConfigError, FlamingoEvalError, MissingDependency, UsageError, did_you_mean
from flamingo_eval.metrics import require_installed
from flamingo_eval.metrics.own import is_own
from flamingo_eval.prompting.ablations import check_ablation, check_ablation_of
from flamingo_eval.prompting.demos import Given, Ranking, Support, most_brought
from flamingo_eval.prompting.episodes import Supports, chosen_queries, episodes_of, ranked_by_model, require_shots
from flamingo_eval.prompting.given_demos import METHODS, file_digest, official_draws, read_demos_file
from flamingo_eval.prompting.okvqa_stem import require_stemming
from flamingo_eval.prompting.prompts import with_variant
from flamingo_eval.records import Episode, Example
from flamingo_eval.runs.preflight import check_wanted, require_letters
from flamingo_eval.runs.runner import TaskData, load_data

DEFAULT_SHOTS = 4  # where no number is given and a task's shots are drawn
LETTER_FORM = "_letter"  # ends the name of a protocol that lists choices with letters


@dataclass(frozen=True, slots=True)
class Question(Resolved):
    """A task and how it is asked."""

    task: TaskSpec
    protocol: ProtocolSpec
    prompt: PromptSpec
    data: str = ""  # a fresh copy for this task only: `sample:7`; empty: the command's choice


@dataclass(frozen=True, slots=True)
class Choices:
    """The options of a set of runs."""

    shots: tuple[
        int | None, ...
    ] = ()  # None: all demonstrations that a query brings; (): that where it brings some, or 4
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


def load_question(task: str, protocol: str, rank: Wanted | None = None, *, usual: bool = False) -> Question:
    """Read a task's YAML and its prompt in a protocol's folder; `protocol` may end in `:VARIANT`.

    `vl_icl_clevr@sample:7` names a fresh copy of a task. With `rank` "letter" a close-ended task is asked in the form
    of the protocol that lists choices with letters: `chat_letter` for `chat`. `usual`: nobody has named the protocol,
    it is the one that the model is usually asked in; a task with a protocol of its own for that form is then asked in
    its own. Raises ConfigError, NoPromptError.
    """
    name, data = named_copy(task)
    spec, _ = load_named_task(name)
    asked = own_protocol(spec, protocol) if usual else protocol
    return replace(question_of(spec, asked, rank), data=data)


def load_named_task(name: str) -> tuple[TaskSpec, list[str]]:
    """A task by name or file, with its own metrics loaded, and lines that say which code runs.

    Code runs only for a task given by its file. Raises ConfigError.
    """
    path = find_task(name)
    task = load_task(path)
    own = [m.name for m in task.metrics if is_own(m.name)]
    if own and not is_task_file(name):
        raise ConfigError(
            f"task '{name}': {', '.join(own)} is code, which runs only for a task given by its file.",
            fix=f"Write ./{path} instead of {name}.",
        )
    return task, use_own_metrics(task, path)


def question_of(task: TaskSpec, protocol: str, rank: Wanted | None = None) -> Question:
    """A task as a protocol asks it: a name, or a path to a folder; it may end in `:VARIANT`. Raises ConfigError.

    With `rank` "letter" a close-ended task is asked in the protocol's form with letters.
    """
    name, variant = _parted(protocol)
    if rank == "letter" and task.mode == "close-ended" and not _has_letters(task, name):
        _check_letter_form(task, name)
        name += LETTER_FORM
    folder = find_protocol(name)
    spec = load_protocol(folder / PROTOCOL_FILE)
    prompt = load_prompt(find_prompt(folder, task.prompt))
    if variant and variant not in spec.variants:
        variants = ", ".join(spec.variants) or "none"
        hint = did_you_mean(variant, spec.variants)
        raise ConfigError(
            f"protocol '{spec.name}' has no variant '{variant}'. {hint}".rstrip(), fix=f"Its variants: {variants}."
        )
    name = f"{spec.name}:{variant}" if variant else spec.name
    return Question(task, replace(spec, name=name, variants={}), with_variant(prompt, variant))


def _parted(protocol: str) -> tuple[str, str]:
    """`chat:lmms-eval` -> protocol and variant; the path of a folder has no variant."""
    name, _, variant = protocol.partition(":") if not Path(protocol).is_dir() else (protocol, "", "")
    return name, variant


def _prompts_used(questions: Sequence[Question], protocol: str) -> list[str]:
    """For a protocol that extends another: which file each task uses, and its own files that no task uses."""
    folder = find_protocol(_parted(protocol)[0])
    chain = protocol_chain(folder)
    if len(chain) == 1:
        return []
    tasks: dict[Path, list[str]] = {}
    for question in questions:
        tasks.setdefault(find_prompt(folder, question.task.prompt), []).append(question.task.name)
    usage = [f"{', '.join(names)} asked by {path.parent.name}/{path.name}" for path, names in tasks.items()]
    own = prompt_files(folder)
    inherited = {name for below in chain[1:] for name in prompt_files(below)}
    unused = [name for name, path in own.items() if path not in tasks and name not in inherited]
    lines = [f"protocol {folder.resolve().name} extends {chain[1].name}: {'; '.join(usage)}"]
    return lines + [f"{folder.resolve().name}/{name}.yaml is not used by these tasks" for name in unused]


def _has_letters(task: TaskSpec, protocol: str) -> bool:
    """Whether a protocol asks the task for a letter already: a form with letters, or a benchmark's own protocol."""
    if protocol.endswith(LETTER_FORM):
        return True
    try:
        return load_prompt(find_prompt(find_protocol(protocol), task.prompt)).rank.wanted == "letter"
    except NoPromptError:
        return False


def _check_letter_form(task: TaskSpec, protocol: str) -> None:
    """Raise NoPromptError if a task cannot be answered with a letter in a protocol."""
    try:
        check_wanted(task, replace(task.rank, wanted="letter", permutations=1))
        find_prompt(find_protocol(f"{protocol}{LETTER_FORM}"), task.prompt)
    except UsageError as error:
        raise NoPromptError(f"--rank letter: {error}") from error
    except ConfigError as error:
        forms = [n.removesuffix(LETTER_FORM) for n in protocol_names() if n.endswith(LETTER_FORM)]
        raise NoPromptError(
            f"--rank letter: {task.name} has no prompt with lettered choices in protocol {protocol}.",
            fix=f"Protocols that have a form with letters: {', '.join(forms)}.",
        ) from error


def named_copy(task: str) -> tuple[str, str]:
    """`vl_icl_clevr@sample:7` -> the task and its data; any other text is only a task."""
    name, _, copy = task.rpartition(f"@{FRESH}")
    return (name, f"{FRESH}{copy}") if name else (task, "")


def own_protocol(task: TaskSpec, usual: str) -> str:
    """The task's own protocol in the form of the one that a model is usually asked in, or that one without one."""
    if not task.protocols:
        return usual
    style = load_protocol(find_protocol(usual) / PROTOCOL_FILE).style
    return task.protocols.get(usual) or task.protocols.get(style) or usual


def load_questions(
    tasks: Sequence[str], protocol: str, rank: Wanted | None = None, *, usual: bool = False
) -> tuple[list[Question], list[str]]:
    """The questions of the tasks, each once, and notes. All problems are in one error.

    `usual` as in load_question.

    A group (`all`, `vl_icl`, ...) means those of its tasks that the protocol covers. Notes list the tasks of a group
    that are skipped, and those that can be answered but not scored here; for a task given by name both are errors.
    """
    requested = tuple(dict.fromkeys(t for t in tasks if t not in group_names()))
    from_groups = expanded([t for t in tasks if t in group_names()])
    questions: dict[str, Question] = {}
    errors: list[FlamingoEvalError] = []
    notes: list[str] = []
    for task in dict.fromkeys((*requested, *from_groups)):
        try:
            question = load_question(task, protocol, rank, usual=usual)
            if question.prompt.clean.stem_okvqa:
                require_stemming()
        except (NoPromptError, MissingDependency) as error:
            if task in requested:
                errors.append(error)
            else:
                notes.append(f"{task} is skipped: {_line(error)}")
            continue
        except FlamingoEvalError as error:
            errors.append(error)
            continue
        missing = _missing_scorers(question)
        if missing and task in requested:
            errors.extend(missing)
            continue
        notes += [f"{task}: answered, not scored: {_what(m)} `flamingo-eval doctor` shows the fix" for m in missing]
        questions[task] = question
    if not errors:
        notes += [line for task in questions for line in load_named_task(named_copy(task)[0])[1]]
        notes += _prompts_used(list(questions.values()), protocol)
    if errors:
        texts = dict.fromkeys(str(e) for e in errors)
        raise errors[0] if len(texts) == 1 else type(errors[0])("\n".join(texts))
    return list(questions.values()), notes


def _line(error: FlamingoEvalError) -> str:
    return " ".join(str(error).split())


def _what(error: FlamingoEvalError) -> str:
    """The first line of a message, without the list and the fix."""
    return str(error).split("\n")[0]


def _missing_scorers(question: Question) -> list[MissingDependency]:
    """The missing dependencies of the task's metrics."""
    missing = []
    for metric in question.task.metrics:
        try:
            require_installed(metric.name)
        except MissingDependency as error:
            missing.append(error)
    return missing


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
    """The numbers of shots to run: those asked for that the task, and the demonstrations that queries bring, go up to.

    Raises UsageError where all of a query's demonstrations are asked for and the task's shots are drawn.
    """
    brought = most_brought(data.queries.examples)
    if None in choices.shots and brought is None:
        raise UsageError(
            f"--shots all: {task.name} draws its shots, its queries bring none.", fix="Give numbers, as --shots 0,4."
        )
    asked = choices.shots or ((DEFAULT_SHOTS,) if brought is None else (None,))
    numbers = dict.fromkeys(brought if k is None else k for k in asked)
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
