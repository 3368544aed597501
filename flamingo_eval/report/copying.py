"""The share of copied answers at each number of shots, and the score of copying alone.

Every share and score is a mean over queries, in per cent, with a 95 % bootstrap interval over pictures; seeds are
averaged as in tables (docs/scores.md explains the computation). Runs of earlier versions do not record copying: it is
computed from the data, if present.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from flamingo_eval.errors import FlamingoEvalError
from flamingo_eval.metrics.baselines import LAST, MAJORITY
from flamingo_eval.metrics.bootstrap import Draws, OverSeeds, Paired, interval, mean_draws, mean_of, over_seeds, paired
from flamingo_eval.metrics.copying import UNCOVERED
from flamingo_eval.records import Copying, Output, Score
from flamingo_eval.report.rows import Recorded
from flamingo_eval.runs.draws import is_mean_of_queries
from flamingo_eval.runs.folder import read_outputs
from flamingo_eval.runs.recorded import copying_again
from flamingo_eval.runs.task_data import TaskData

DataOf: TypeAlias = Callable[[Recorded], TaskData]  # raises FlamingoEvalError if the data is missing


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its 95 % bootstrap interval over pictures; both None if undefined."""

    value: float | None
    ci95: tuple[float, float] | None = None

    @classmethod
    def of(cls, scores: OverSeeds | None) -> Estimate:
        return cls(None) if scores is None else cls(scores.value, scores.ci95)


NOTHING = Estimate(None)

# The numbers of a run, each with the value of every query that counts
Value: TypeAlias = Callable[[Copying, float | None], float | None]
FIGURES: Mapping[str, Value] = {
    "copied": lambda c, score: 100.0 * c.any,
    "copied_right": lambda c, score: score if c.any else None,
    "majority": lambda c, score: 100.0 * c.majority,
    "last": lambda c, score: 100.0 * c.last,
    "always_majority": lambda c, score: c.majority_score,
    "always_last": lambda c, score: c.last_score,
    "covered": lambda c, score: None if c.covered is None else 100.0 * c.covered,
    "uncovered": lambda c, score: None if c.covered is not False else score,
    "uncovered_copied": lambda c, score: None if c.covered is not False else 100.0 * c.any,
    "uncovered_majority": lambda c, score: None if c.covered is not False else 100.0 * c.majority,
    "uncovered_last": lambda c, score: None if c.covered is not False else 100.0 * c.last,
}
RECORDED_SCORES = {"always_majority": MAJORITY, "always_last": LAST, "uncovered": UNCOVERED}  # of corpus metrics


@dataclass(frozen=True, slots=True)
class CopyingAt:
    """What the answers of a row copied from the shots, at one number of shots. In per cent, or the metric's points.

    `above_majority` and `above_last` are the score minus that of always giving the shots' most frequent or last answer,
    over the same pictures.
    """

    shots: int
    score: Estimate
    copied: Estimate = NOTHING  # answers that are one of the shots'
    copied_right: Estimate = NOTHING  # the score of those; of a corpus metric, how often they are a right answer
    majority: Estimate = NOTHING  # answers that are the shots' most frequent one
    last: Estimate = NOTHING
    always_majority: Estimate = NOTHING  # the score of always saying the shots' most frequent answer
    always_last: Estimate = NOTHING
    covered: Estimate = NOTHING  # queries of which a shot shows a right answer
    uncovered: Estimate = NOTHING  # the score of the other ones
    uncovered_copied: Estimate = NOTHING
    uncovered_majority: Estimate = NOTHING
    uncovered_last: Estimate = NOTHING
    above_majority: Paired | None = None
    above_last: Paired | None = None
    why: str = ""  # why there are no numbers


def copying_at(records: Sequence[Recorded], data_of: DataOf) -> CopyingAt:
    """The numbers of runs that differ only in the seed."""
    headlines = [r.scores.headline for r in records]
    values = [s.value for s in headlines if s.value is not None]
    score = over_seeds(values, [r.draws(r.scores.headline.metric) for r in records]) if values else None
    figures = CopyingAt(records[0].scores.shots, Estimate.of(score) if len(values) == len(records) else NOTHING)
    try:
        runs = [_marked(record, data_of) for record in records]
    except FlamingoEvalError as error:
        return replace(figures, why=" ".join(str(error).split()))
    if not all(run.shown for run in runs):
        return replace(figures, why="no demonstrations are shown")
    tables = [run.table() for run in runs]
    over = {name: _over_seeds([table[name] for table in tables]) for name in FIGURES}
    return replace(
        figures,
        copied=Estimate.of(over["copied"]),
        copied_right=Estimate.of(over["copied_right"]),
        majority=Estimate.of(over["majority"]),
        last=Estimate.of(over["last"]),
        always_majority=Estimate.of(over["always_majority"]),
        always_last=Estimate.of(over["always_last"]),
        covered=Estimate.of(over["covered"]),
        uncovered=Estimate.of(over["uncovered"]),
        uncovered_copied=Estimate.of(over["uncovered_copied"]),
        uncovered_majority=Estimate.of(over["uncovered_majority"]),
        uncovered_last=Estimate.of(over["uncovered_last"]),
        above_majority=_above(score, over["always_majority"]),
        above_last=_above(score, over["always_last"]),
    )


@dataclass(frozen=True, slots=True)
class _Marked:
    """The answered queries of a run with what they copied, and the scores of a corpus metric."""

    outputs: tuple[Output, ...]
    scores: Mapping[str, Score] = field(default_factory=dict)
    is_mean: bool = True  # whether the headline is the mean of the queries' own scores

    @property
    def shown(self) -> bool:
        return any(o.copying is not None for o in self.outputs)

    def table(self) -> dict[str, tuple[Estimate, Draws]]:
        """Value, interval and draws of every figure."""
        marked = [(o, o.copying) for o in self.outputs if o.copying is not None]
        columns = {name: [value(c, self._score(name, o, c)) for o, c in marked] for name, value in FIGURES.items()}
        draws = mean_draws(list(columns.values()), [o.media for o, _ in marked])
        table: dict[str, tuple[Estimate, Draws]] = {}
        for (name, column), drawn in zip(columns.items(), draws, strict=True):
            value = mean_of(column)
            table[name] = (NOTHING, ()) if value is None else (Estimate(value, interval(drawn, value)), drawn)
        for name, key in RECORDED_SCORES.items():
            if not self.is_mean:
                table[name] = (NOTHING, ())
            if key in self.scores:
                table[name] = Estimate(self.scores[key].value, self.scores[key].ci95), ()
        return table

    def _score(self, figure: str, output: Output, copying: Copying) -> float | None:
        """A query's own score; for corpus metrics, whether its answer is right."""
        if self.is_mean:
            return output.score
        return None if copying.right is None else 100.0 * copying.right


def _marked(record: Recorded, data_of: DataOf) -> _Marked:
    """What a run's answers copied. Raises FlamingoEvalError if it is not recorded and cannot be computed."""
    outputs, scores = read_outputs(record.folder.outputs)[0], record.scores.copying
    answered = [o for o in outputs if not o.error]
    if any(o.shots for o in answered) and all(o.copying is None for o in answered):
        answered, scores = copying_again(record.run, answered, data_of(record))
        if all(o.copying is None for o in answered):
            raise FlamingoEvalError("the shots differ from those in the record")
    return _Marked(tuple(answered), scores, is_mean_of_queries(record.scores.headline, answered))


def _over_seeds(parts: Sequence[tuple[Estimate, Draws]]) -> OverSeeds | None:
    """The mean over seeds; None if a seed has no value. Without draws, one seed has its own interval, several none."""
    values = [estimate.value for estimate, _ in parts]
    defined = [value for value in values if value is not None]
    if len(defined) < len(values):
        return None
    scores = over_seeds(defined, [draws for _, draws in parts])
    return replace(scores, ci95=parts[0][0].ci95) if len(parts) == 1 and not scores.draws else scores


def _above(score: OverSeeds | None, baseline: OverSeeds | None) -> Paired | None:
    if score is None or baseline is None:
        return None
    return paired(baseline.value, score.value, baseline.draws, score.draws)
