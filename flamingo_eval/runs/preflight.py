"""Checks before a model's weights are loaded: metrics, pictures, lengths of prompts."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from flamingo_eval.config.specs import RankSpec, TaskSpec
from flamingo_eval.errors import MediaError, Problem, PromptError, UsageError
from flamingo_eval.metrics import metric_row
from flamingo_eval.prompting.letters import LETTERS
from flamingo_eval.prompting.prompts import candidate_text, render
from flamingo_eval.records import Episode, Media

if TYPE_CHECKING:
    from flamingo_eval.backends.choice import ModelChoice
    from flamingo_eval.backends.shape import Shape
    from flamingo_eval.runs.plan import PlannedRun

SURELY_DRAWN = 32  # draws for each support example: the chance that one is in none of them is exp(-32)
CHECKED_QUERIES = 16  # queries, per task and number of shots, whose prompts are rendered and counted


def check_wanted(task: TaskSpec, rank: RankSpec) -> None:
    """Raise UsageError if only the best candidate or a letter is requested but the scores of all are needed."""
    if task.mode == "open-ended" or rank.wanted == "all":
        return
    if rank.wanted == "letter":
        _check_letters(task, rank)
        return
    needing = [m.name for m in task.metrics if not metric_row(m.name).best_suffices]
    if needing:
        raise UsageError(
            f"{task.name}: {', '.join(needing)} cannot be computed from the best candidate only.",
            fix="Rank all: --rank all.",
        )
    if rank.permutations > 1:
        raise UsageError(
            f"{task.name}: an average over {rank.permutations} orders of the shots needs the scores of all candidates.",
            fix="Rank all: --rank all; or show one order: --permutations 1.",
        )


def _check_letters(task: TaskSpec, rank: RankSpec) -> None:
    needing = [m.name for m in task.metrics if not metric_row(m.name).letter_suffices]
    if needing:
        raise UsageError(
            f"{task.name}: {', '.join(needing)} cannot be computed from a letter.",
            fix="Rank all candidates (--rank all), or leave this task out.",
        )
    if rank.permutations > 1:
        raise UsageError(
            f"{task.name}: letters are not averaged over {rank.permutations} orders of the shots.",
            fix="Show one order: --permutations 1.",
        )


def require_letters(runs: Sequence[PlannedRun]) -> None:
    """Raise UsageError that lists the tasks whose candidates cannot have letters, and why."""
    problems: dict[str, Problem] = {}
    for run in runs:
        if run.task.mode == "close-ended" and run.rank.wanted == "letter" and run.task_label not in problems:
            why = _why_no_letters(run)
            if why:
                problems[run.task_label] = Problem(why, key=run.task_label)
    if problems:
        raise UsageError(
            "these tasks cannot be answered with a letter:",
            list(problems.values()),
            fix="Remove these tasks, or score their candidates: --rank all.",
        )


def _why_no_letters(run: PlannedRun) -> str:
    if run.prompt.rank.wanted != "letter":
        return f"the prompt of protocol {run.protocol.name} lists no choices."
    split, support = run.data.queries.candidates, run.support
    shots = support.examples if support is not None and (run.demos.shots or run.text_only_shots) else ()
    most = max(len(e.candidates or split) for e in (*run.queries, *shots))
    if most > len(LETTERS):
        return f"{most} candidates, but only {len(LETTERS)} letters."
    replaced = run.ablation == "labels-replaced" or (
        run.ablation.startswith("labels-") and any(e.candidates for e in shots)
    )
    if shots and replaced:
        return f"--ablation {run.ablation}: the answers it shows are not among the choices."
    strange = next((e for e in shots if e.answer not in (e.candidates or split)), None)
    return f"example {strange.id}: its answer {strange.answer[:60]!r} is not one of its choices." if strange else ""


def require_supported(choice: ModelChoice, runs: Sequence[PlannedRun]) -> None:
    """Raise UsageError that names what a model cannot do: a server takes no text without turns and no beams.

    Neither a server nor a class of the user's gives features for RICES.
    """
    if choice.scheme not in ("openai", "own"):
        return
    problems = []
    for run in {r.task_label: r for r in runs}.values():
        if run.ranked_by_model and not run.demos.features:
            what = "servers give" if choice.scheme == "openai" else "a class of your own gives"
            problems.append(Problem(f"--demos {run.demos.method}: {what} no features.", key=run.task_label))
        if choice.scheme == "own":
            continue
        if run.protocol.style == "interleaved":
            problems.append(Problem(f"protocol {run.protocol.name} has no turns.", key=run.task_label))
        elif run.generates and run.decode.beams > 1:
            problems.append(Problem(f"{run.decode.beams} beams; servers decode greedily.", key=run.task_label))
    if problems:
        raise UsageError(
            f"{choice}: this model does not support:",
            problems,
            fix="Use --protocol chat; features of another model: --features-of MODEL.",
        )


def media_of(episodes: Iterable[Episode]) -> Iterator[Media]:
    """Every distinct picture and clip that the prompts of these episodes show, in order of first use."""
    yielded: set[Media] = set()
    for episode in episodes:
        shots = () if episode.text_only else episode.shots
        for example in (*shots, episode.query):
            for media in example.media:
                if media not in yielded:
                    yielded.add(media)
                    yield media


def media_shown(run: PlannedRun, answered_ids: Collection[str] = ()) -> Iterator[Media]:
    """The pictures and clips of a run's unanswered queries; some may occur twice.

    If the shots of a run contain every support example, the whole support set is returned without making
    episodes: the chance that one of its pictures is not shown is below one in a million.
    """
    if run.ranked_by_model:
        return  # its shots are unknown
    unanswered = [e for e in run.queries if e.id not in answered_ids] if answered_ids else run.queries
    support = run.support
    if not run.demos.shots and not run.ablation:  # demonstrations without their pictures, if any
        for query in unanswered:
            yield from query.media
    elif support is not None and not run.ablation and _shows_all(run, len(unanswered)):
        for example in (*unanswered, *support.examples):
            yield from example.media
    else:
        yield from media_of(run.episodes(excluded_ids=answered_ids))


def _shows_all(run: PlannedRun, queries: int) -> bool:
    """Whether this many queries almost certainly show every example of the support set, with random shots."""
    support = run.support
    if support is None or run.demos.method != "random" or len(support.pools) > 1:
        return False
    return queries * run.demos.shots >= SURELY_DRAWN * len(support.examples) > 0


def require_readable(media: Iterable[Media]) -> None:
    """Raise MediaError that lists every missing or truncated file, each once.

    Files that look complete are not decoded here; the engine decodes them once and treats errors by --on-error.
    """
    from flamingo_eval.data.check import unreadable_media  # imports decoders

    objects = {id(m): m for m in media}  # shared by many rows and runs, and quicker to tell apart than their values
    problems = unreadable_media(dict.fromkeys(objects.values()), decode=False)
    if problems:
        count = "1 picture or clip" if len(problems) == 1 else f"{len(problems)} pictures or clips"
        raise MediaError(
            f"{count} cannot be read:",
            problems,
            fix="Fix the files, or run with --on-error skip: demonstrations that cannot be shown are replaced by "
            "the next ones, and queries without their picture are counted and listed, never scored.",
        )


def require_short(runs: Sequence[PlannedRun], shape: Shape) -> None:
    """Raise PromptError that lists every task and number of shots too long for the model, with the longest query.

    Counts a few queries of each; the engine checks every prompt, possibly after an hour.
    """
    problems: list[Problem] = []
    checked: set[tuple[str, int]] = set()
    for run in runs:
        key = (run.task_label, run.demos.shots)
        if run.on_error == "skip" or run.ranked_by_model or key in checked:
            continue
        checked.add(key)
        sample = run.episodes(every=max(1, len(run.queries) // CHECKED_QUERIES))
        longest, query = max(((_tokens(e, run, shape), e.query.id) for e in sample), default=(0, ""))
        if longest > shape.context_length:
            problems.append(
                Problem(f"{longest} tokens with the answer (query {query}).", key=f"{key[0]}, {key[1]} shots")
            )
    if problems:
        raise PromptError(
            f"prompts longer than the {shape.context_length} tokens that {shape.name} reads:",
            problems,
            fix=f"{shape.advice}, or run with --on-error skip: such queries are then counted, never scored.",
        )


def _tokens(episode: Episode, run: PlannedRun, shape: Shape) -> int:
    prompt = shape.count_tokens(render(episode, run.prompt, run.protocol, run.data.queries.candidates))
    if run.generates:
        return prompt + run.decode.max_new_tokens
    names = episode.query.candidates or run.data.queries.candidates
    return prompt + shape.count_continuation(max((candidate_text(n, run.prompt) for n in names), key=len))
