"""Predictions and examples of one task -> its scores, with intervals."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from flamingo_eval.config.specs import MetricSpec
from flamingo_eval.errors import DataError, MetricError, MissingDependency, Problem
from flamingo_eval.metrics import load_metric, metric_row
from flamingo_eval.metrics.bootstrap import bootstrap, draws_note
from flamingo_eval.metrics.dialects import dialect_of
from flamingo_eval.metrics.requirements import references_note
from flamingo_eval.records import Example, Prediction, Score

LETTERS = "letters"  # key of the note about answers without a choice
REFERENCES = "references"  # key of the note about examples with too few references for a full score


def check_inputs(name: str, predictions: Sequence[Prediction], examples: Sequence[Example]) -> None:
    """Whether the rows have what the metric reads. Raises DataError naming the first rows that do not."""
    row = metric_row(name)
    problems: list[Problem] = []
    for prediction, example in zip(predictions, examples, strict=True):
        missing = [f"label '{key}'" for key in row.labels if key not in example.labels]
        if row.needs == "text" and not example.references:
            missing.append("references")
        if row.target and example.target is None:
            missing.append("target")
        answer = prediction.text if row.needs == "text" else prediction.scores
        best = prediction.best is not None and row.best_suffices
        if answer is None and not best and not (row.letter_suffices and prediction.text is not None):
            missing.append("a predicted text" if row.needs == "text" else "candidate scores")
        if missing:
            problems.append(Problem(f"'{example.id}' has no {', no '.join(missing)}."))
    if problems:
        fix = (
            f"The task's layout does not provide what {name} needs; see `flamingo-eval list metrics` for other metrics."
        )
        raise DataError(f"metric {name}: {len(problems)} of {len(examples)} examples cannot be scored", problems, fix)


def score_all(
    predictions: Sequence[Prediction],
    examples: Sequence[Example],
    metrics: Sequence[MetricSpec],
    *,
    dialect: str = "",
    n_failed: int = 0,
    keep_unscored: bool = False,
    phase: Callable[[str], None] = lambda _: None,
) -> tuple[list[Score], list[float | None]]:
    """Every metric of a task with its interval, and the per-example values of the first (the headline).

    `dialect` is the protocol's, for metrics whose task names none. Predictions and examples are aligned. If a metric
    needs
    a package that is not installed (MissingDependency), or its program fails (MetricError), it is undefined with this
    reason, and the others keep their values; the headline's error is raised unless `keep_unscored`.

    `phase` is called with the metric that is computed, and again for its interval.
    """
    scores: list[Score] = []
    headline: list[float | None] = [None] * len(predictions)
    for i, spec in enumerate(metrics):
        own_dialect = dialect_of(spec, dialect)
        if not predictions:
            why = "no query was answered"
            scores.append(Score(spec.name, None, 0, n_failed, why_undefined=why))
            continue
        check_inputs(spec.name, predictions, examples)
        title = metric_row(spec.name).title
        phase(f"scoring {title}")
        try:
            result = load_metric(spec.name)(predictions, examples, own_dialect)
        except (MissingDependency, MetricError) as error:
            if not keep_unscored and i == 0:
                raise
            why = " ".join(str(error).split())
            scores.append(Score(spec.name, None, len(predictions), n_failed, why_undefined=why, unscored=True))
            continue
        phase(f"interval of {title}")
        ci95, draws = bootstrap(result, [e.media_id for e in examples])
        notes = {"dialect": own_dialect, **result.notes} if own_dialect else dict(result.notes)
        if result.value is not None and (note := draws_note(draws, result.value)):
            notes["bootstrap"] = note
        if note := references_note(spec.name, examples):
            notes[REFERENCES] = note
        scores.append(
            Score(
                spec.name,
                result.value,
                len(predictions),
                n_failed,
                ci95,
                result.why_undefined,
                breakdown=dict(result.breakdown),
                notes=notes,
                draws=draws,
            )
        )
        if i == 0:
            headline = list(result.per_example)
    return scores, headline
