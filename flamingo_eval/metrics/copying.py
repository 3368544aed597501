"""What answers copy from the answers of their query's shots, and the score that copying alone would get.

Two answers are equal if they are equal after the task's own normalisation (METRICS, `reads`): VQA's cleaning of
punctuation, articles and number words; the released scorer's cut and its corrected reading for VL-ICL; the words of a
whole caption; otherwise lower case without outer white space and a trailing period. A close-ended answer is the text of
the best candidate. The shots' answers are those in the prompt, after an ablation.

    copied     the answer is one of the shots' answers
    majority   it is their most frequent one (the first one in the prompt, if several are equally frequent)
    last       it is that of the shot next to the query
    covered    one of the shots' answers is right: a reference, or the right candidate

Whole captions are rarely equal: for captions `copied` counts those that are copied word for word.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from flamingo_eval.config.specs import MetricSpec
from flamingo_eval.errors import MetricError, MissingDependency
from flamingo_eval.metrics import answer_reader, load_metric, metric_row
from flamingo_eval.metrics.baselines import LAST, MAJORITY, last_shown, most_frequent, saying
from flamingo_eval.metrics.bootstrap import bootstrap, mean_of
from flamingo_eval.metrics.dialects import dialect_of
from flamingo_eval.records import Copying, Example, MetricResult, Prediction, Score

UNCOVERED = "uncovered"  # the queries whose answer no shot shows


@dataclass(frozen=True, slots=True)
class ShotUse:
    """What the answers copied from the shots: per query, and scores that are not means over queries."""

    queries: tuple[Copying | None, ...]  # aligned with the predictions; None if no shot was shown
    scores: Mapping[str, Score] = field(default_factory=dict)  # of corpus metrics: by MAJORITY, LAST, UNCOVERED


def shot_use(
    predictions: Sequence[Prediction],
    examples: Sequence[Example],
    shot_answers: Sequence[Sequence[str]],
    metric: MetricSpec,
    *,
    dialect: str = "",
    candidates: Sequence[str] = (),
    labelled: bool = True,
) -> ShotUse:
    """Compare every answer with the answers of its shots (`shot_answers`, aligned, in the order of the prompt).

    `metric` is the headline, `dialect` the protocol's; `candidates` are the split's, for queries that have none of
    their own; a split that is not `labelled` has neither right answers nor scores. If the metric needs a package that
    is
    not installed, there are no scores.
    """
    rows = [i for i, answers in enumerate(shot_answers) if answers]
    if not rows:
        return ShotUse((None,) * len(predictions))
    part = [predictions[i] for i in rows]
    subset = [examples[i] for i in rows]
    answers = [shot_answers[i] for i in rows]
    copyings = [_compared(*row, metric, candidates, labelled) for row in zip(part, subset, answers, strict=True)]
    scores: dict[str, Score] = {}
    if labelled and metric_row(metric.name).one_answer:
        own_dialect = dialect_of(metric, dialect)
        majority, last = (
            _result([saying(choose(a), e, metric.name, candidates) for e, a in zip(subset, answers, strict=True)],
                    subset, metric, own_dialect)
            for choose in (most_frequent, last_shown)
        )  # fmt: skip
        if majority is not None and last is not None:
            if is_mean(majority):
                copyings = [
                    replace(c, majority_score=m, last_score=n)
                    for c, m, n in zip(copyings, majority.per_example, last.per_example, strict=True)
                ]
            else:
                scores |= {
                    MAJORITY: _score(majority, subset, metric),
                    LAST: _score(last, subset, metric),
                }
    scores |= _uncovered(part, subset, copyings, metric, dialect) if labelled else {}
    queries: list[Copying | None] = [None] * len(predictions)
    for i, copying in zip(rows, copyings, strict=True):
        queries[i] = copying
    return ShotUse(tuple(queries), scores)


def is_mean(result: MetricResult) -> bool:
    """Whether the value is the mean of the queries' own scores, so that each part of the queries has its own score."""
    mean = mean_of(result.per_example)
    if result.resample is not None or mean is None or result.value is None:
        return False
    return abs(mean - result.value) < 1e-6


def _compared(
    prediction: Prediction,
    example: Example,
    answers: Sequence[str],
    metric: MetricSpec,
    candidates: Sequence[str],
    labelled: bool,
) -> Copying:
    normalise = answer_reader(metric.name)
    shot_answers = [normalise(answer) for answer in answers]
    own_answer = normalise(answer_text(prediction, example.candidates or candidates))
    right = {normalise(answer) for answer in right_answers(example, candidates)}
    return Copying(
        any=own_answer in shot_answers,
        majority=own_answer == normalise(most_frequent(answers)),
        last=own_answer == shot_answers[-1],
        covered=not right.isdisjoint(shot_answers) if labelled else None,
        right=own_answer in right if labelled else None,
    )


def answer_text(prediction: Prediction, candidates: Sequence[str]) -> str:
    """The text of a prediction: that of its best candidate, or its own text."""
    index = prediction.chosen
    if index is None:
        return prediction.text or ""
    return candidates[index] if 0 <= index < len(candidates) else ""


def right_answers(example: Example, candidates: Sequence[str] = ()) -> tuple[str, ...]:
    """The right answers: references and the right candidate, else the answer that the row has as a shot."""
    choices = example.candidates or candidates
    target = (choices[example.target],) if example.target is not None and example.target < len(choices) else ()
    right = (*example.references, *target)
    return right or ((example.answer,) if example.answer else ())


def _result(
    predictions: Sequence[Prediction], examples: Sequence[Example], metric: MetricSpec, dialect: str
) -> MetricResult | None:
    """The metric's result; None if a package that it needs is not installed."""
    try:
        return load_metric(metric.name)(predictions, examples, dialect)
    except (MissingDependency, MetricError):
        return None


def _score(result: MetricResult, examples: Sequence[Example], metric: MetricSpec) -> Score:
    ci95, _ = bootstrap(result, [e.media_id for e in examples])
    return Score(metric.name, result.value, len(examples), ci95=ci95, why_undefined=result.why_undefined)


def _uncovered(
    predictions: Sequence[Prediction],
    examples: Sequence[Example],
    copyings: Sequence[Copying],
    metric: MetricSpec,
    dialect: str,
) -> dict[str, Score]:
    """The score of the queries whose answer no shot shows, if it is not a mean of their own scores."""
    rows = [i for i, copying in enumerate(copyings) if not copying.covered]
    if not rows:
        return {}
    subset = [examples[i] for i in rows]
    result = _result([predictions[i] for i in rows], subset, metric, dialect_of(metric, dialect))
    return {} if result is None or is_mean(result) else {UNCOVERED: _score(result, subset, metric)}
