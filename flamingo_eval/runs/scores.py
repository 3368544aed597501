"""From the outputs of a run to its scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from flamingo_eval.config.specs import MetricSpec, RunSpec
from flamingo_eval.metrics.baselines import MAJORITY, RANDOM, baseline_scores
from flamingo_eval.metrics.scoring import LETTERS, score_all
from flamingo_eval.prompting.support import FEWER_NOTE, brought, fewer_note, shown_under
from flamingo_eval.records import Example, Output, Prediction, Score, Split
from flamingo_eval.runs.folder import CEILING


def coverage(answered: Sequence[tuple[Output, Example]], shots: Mapping[str, Example]) -> float:
    """Share of queries (0-100) with a shot that shows their answer.

    If labels have a meaning only within an episode (fast binding), this is the ceiling: only guessing can exceed it.
    """
    covered = [any(_answer_to(e, shots[s]) in e.references for s in o.shots) for o, e in answered]
    return 100 * sum(covered) / len(covered)


def _answer_to(query: Example, shot: Example) -> str:
    return shown_under(shot, str(query.labels.get("answer_key", ""))).answer


def scored(
    outputs: Sequence[Output],
    examples: Sequence[Example],
    spec: RunSpec,
    split: Split,
    shots: Mapping[str, Example],
    phase: Callable[[str], None] = lambda _: None,
) -> tuple[list[Score], list[float | None]]:
    """The task's metrics over the answered queries, and the headline's per-example values (None if it failed).

    `phase` is called with what is being computed.
    """
    answered = [(o, e) for o, e in zip(outputs, examples, strict=True) if not o.error]
    n_failed = len(outputs) - len(answered)
    if not split.labelled:
        why = f"split '{split.name}' has no public answers: submission.json is for the evaluation server"
        headline = spec.task.metrics[0].name
        return [Score(headline, None, len(answered), n_failed, why_undefined=why)], [None] * len(outputs)
    predictions = [Prediction.of(o) for o, _ in answered]
    scores, values = score_all(
        predictions,
        [e for _, e in answered],
        spec.task.metrics,
        dialect=spec.prompt.metric_dialect,
        n_failed=n_failed,
        keep_unscored=True,
        phase=phase,
    )
    value_of = {o.id: v for (o, _), v in zip(answered, values, strict=True)}
    unread = sum(p.chosen is None for p in predictions) if _by_letter(spec) else 0
    if unread:
        note = f"{unread} of {len(predictions)} answers contain no choice: counted as wrong"
        scores = [replace(score, notes={**score.notes, LETTERS: note}) for score in scores]
    if scores and any(brought(e) is not None for _, e in answered):
        ids = [o.shots for o, _ in answered]
        asked, dialect = [e for _, e in answered], spec.prompt.metric_dialect
        scores[0] = with_baselines(scores[0], spec.task.metrics[0], asked, ids, shots, spec.demos.seed, dialect)
        if note := fewer_note([e for _, e in answered], spec.demos.shots):
            scores = [replace(score, notes={**score.notes, FEWER_NOTE: note}) for score in scores]
    elif scores and any("pool" in e.labels for _, e in answered):
        scores[0] = replace(scores[0], breakdown={**scores[0].breakdown, CEILING: coverage(answered, shots)})
    return scores, [value_of.get(o.id) for o in outputs]


def with_baselines(
    score: Score,
    metric: MetricSpec,
    queries: Sequence[Example],
    ids: Sequence[Sequence[str]],
    shots: Mapping[str, Example],
    seed: int,
    dialect: str = "",
) -> Score:
    """The score, with that of always repeating an answer of the shots, if queries have their own shots.

    `ids`: each query's shots in the order of the prompt, aligned; `shots`: rows by id.
    """
    answers = [[_answer_to(e, shots[id]) for id in own if id in shots] for e, own in zip(queries, ids, strict=True)]
    baselines = baseline_scores(metric, queries, answers, seed, dialect=dialect)
    values = {name: baselines[name].value for name in (MAJORITY, RANDOM) if name in baselines}
    return replace(score, breakdown={**score.breakdown, **values})


def _by_letter(spec: RunSpec) -> bool:
    return spec.generates and spec.task.mode == "close-ended"
