"""Tasks as they are asked: a task's YAML, its protocol and its prompt, from the names on a command line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from flamingo_eval.config.groups import expanded, group_names
from flamingo_eval.config.load import load_prompt
from flamingo_eval.config.names import PROTOCOL_FILE, find_protocol, find_task, is_task_file, protocol_names
from flamingo_eval.config.protocols import NoPromptError, find_prompt, load_protocol, prompt_files, protocol_chain
from flamingo_eval.config.settings import FRESH
from flamingo_eval.config.specs import PromptSpec, ProtocolSpec, Resolved, TaskSpec, Wanted
from flamingo_eval.data.task_file import load_task, use_own_metrics
from flamingo_eval.errors import ConfigError, FlamingoEvalError, MissingDependency, UsageError, did_you_mean
from flamingo_eval.metrics.own import is_own
from flamingo_eval.metrics.requirements import require_installed
from flamingo_eval.prompting.okvqa_stem import require_stemming
from flamingo_eval.prompting.prompts import with_variant
from flamingo_eval.runs.preflight import check_wanted

LETTER_FORM = "_letter"  # ends the name of a protocol that lists choices with letters


@dataclass(frozen=True, slots=True)
class Question(Resolved):
    """A task and how it is asked."""

    task: TaskSpec
    protocol: ProtocolSpec
    prompt: PromptSpec
    data: str = ""  # a fresh copy for this task only: `sample:7`; empty: the command's choice


def load_question(task: str, protocol: str, rank: Wanted | None = None, *, usual: bool = False) -> Question:
    """Read a task's YAML and its prompt in a protocol's folder; `protocol` may end in `:VARIANT`.

    `vl_icl_clevr@sample:7` names a fresh copy of a task. With `rank` "letter" a close-ended task is asked in the form
    of the protocol that lists choices with letters: `chat_letter` for `chat`. `usual`: nobody has named the protocol,
    it is the one that the model is usually asked in; a task with a protocol of its own for that form is then asked in
    its own. Raises ConfigError, NoPromptError.
    """
    name, data = named_copy(task)
    spec, _ = load_named_task(name)
    protocol_name = own_protocol(spec, protocol) if usual else protocol
    return replace(question_of(spec, protocol_name, rank), data=data)


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
