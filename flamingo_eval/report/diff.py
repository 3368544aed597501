"""Two run records compared: settings, machine, inputs, outputs, and whether the scores differ significantly."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from flamingo_eval.errors import RunError
from flamingo_eval.metrics.bootstrap import Draws, Paired, bootstrap, paired
from flamingo_eval.records import Best, MetricResult, Output, Prediction, Score, best_of
from flamingo_eval.runs.draws import draws_of
from flamingo_eval.runs.folder import RunFolder, find_runs, read_outputs
from flamingo_eval.runs.identity import Difference, choices_differ, differences, inputs_differ
from flamingo_eval.runs.record import Provenance, read_run, read_scores


@dataclass(frozen=True, slots=True)
class ScoreDifference:
    """One metric of both runs. `paired` is None if the two cannot be paired; `why` gives the reason."""

    metric: str
    a: float | None
    b: float | None
    paired: Paired | None
    why: str = ""


@dataclass(frozen=True, slots=True)
class ChangedAnswer:
    """A query with different answers `a` and `b`: texts, or the best candidate."""

    id: str
    a: str
    b: str
    score_a: float | None
    score_b: float | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """All differences between runs a and b."""

    a: RunFolder
    b: RunFolder
    configuration: tuple[Difference, ...]
    provenance: tuple[Difference, ...]
    inputs: tuple[Difference, ...]
    scores: tuple[ScoreDifference, ...]
    changed: tuple[ChangedAnswer, ...]
    common: int  # queries in both
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]
    moved: int  # close-ended: queries whose candidate scores differ, whether or not the best one does

    @property
    def same_results(self) -> bool:
        """Whether inputs, configuration, answers and scores are equal; versions and machines may differ."""
        gaps = any(s.a != s.b for s in self.scores)
        return not (gaps or self.configuration or self.inputs or self.changed or self.only_a or self.only_b)


def one_run(path: Path) -> RunFolder:
    """The one complete run in or below a folder. Raises RunError if there are several."""
    runs = find_runs([path])
    if len(runs) > 1:
        names = ", ".join(str(r.path.relative_to(path)) for r in runs[:5])
        raise RunError(
            f"{path}: {len(runs)} runs are below it ({names}{', ...' if len(runs) > 5 else ''}): choose one."
        )
    return runs[0]


def compare(a: RunFolder, b: RunFolder) -> Comparison:
    """Everything that differs between two complete runs."""
    run_a, run_b = read_run(a.run), read_run(b.run)
    outputs_a, outputs_b = outputs_by_id(a), outputs_by_id(b)
    common = [id for id in outputs_a if id in outputs_b]
    return Comparison(
        a=a,
        b=b,
        configuration=choices_differ(run_a, run_b),
        provenance=differences(_flat(run_a.provenance), _flat(run_b.provenance)),
        inputs=inputs_differ(run_a, run_b),
        scores=_scores(a, b, outputs_a, outputs_b),
        changed=tuple(_changed(outputs_a, outputs_b, common)),
        common=len(common),
        only_a=tuple(id for id in outputs_a if id not in outputs_b),
        only_b=tuple(id for id in outputs_b if id not in outputs_a),
        moved=sum(_moved(outputs_a[id], outputs_b[id]) for id in common),
    )


def outputs_by_id(folder: RunFolder) -> dict[str, Output]:
    """The outputs of a complete run in query order. Raises RunError for a truncated file."""
    outputs, whole = read_outputs(folder.outputs)
    if not folder.outputs.is_file() or whole != folder.outputs.stat().st_size:
        raise RunError(f"{folder.outputs}: missing, or truncated at byte {whole}.", fix="Run the same command again.")
    return {o.id: o for o in outputs}


def answer_of(output: Output) -> str:
    """The answer to a query: the cleaned text, or `candidate 3` (the best one, from 0)."""
    if output.error:
        return f"failed: {output.error}"
    best_index = Prediction.of(output).chosen
    return output.prediction or "" if best_index is None else f"candidate {best_index}"


def _moved(a: Output, b: Output) -> bool:
    """Whether candidate scores differ, as far as both runs have them: of all candidates, or of the best one."""
    if a.best is None and b.best is None:
        return a.scores != b.scores
    return _best(a) != _best(b)


def _best(output: Output) -> Best | None:
    if output.best is not None or not output.scores:
        return output.best
    index = best_of(output.scores)
    return Best(index, output.scores[index])


def _flat(provenance: Provenance) -> dict[str, Any]:
    value = dataclasses.asdict(provenance)
    packages = value.pop("packages")
    return {**value, **{f"packages.{name}": version for name, version in packages.items()}}


def _changed(a: Mapping[str, Output], b: Mapping[str, Output], common: list[str]) -> Iterator[ChangedAnswer]:
    for id in common:
        said_a, said_b = answer_of(a[id]), answer_of(b[id])
        if said_a != said_b:
            yield ChangedAnswer(id, said_a, said_b, a[id].score, b[id].score)


def _scores(
    a: RunFolder, b: RunFolder, outputs_a: Mapping[str, Output], outputs_b: Mapping[str, Output]
) -> tuple[ScoreDifference, ...]:
    scores_a, scores_b = (_with_draws(f, o) for f, o in ((a, outputs_a), (b, outputs_b)))
    headline = next(iter(scores_a), "")
    differences = []
    for metric, x in scores_a.items():
        y = scores_b.get(metric)
        if y is None:
            continue
        difference, reason = _paired(x, y, outputs_a, outputs_b, metric == headline)
        differences.append(ScoreDifference(metric, x.value, y.value, difference, reason))
    return tuple(differences)


def _with_draws(folder: RunFolder, outputs: Mapping[str, Output]) -> dict[str, Score]:
    scores = read_scores(folder.scores).scores
    return {s.metric: replace(s, draws=draws_of(scores, i, outputs.values())) for i, s in enumerate(scores)}


def _paired(
    x: Score,
    y: Score,
    outputs_a: Mapping[str, Output],
    outputs_b: Mapping[str, Output],
    headline: bool,
) -> tuple[Paired | None, str]:
    """The paired difference b - a. Runs over the same queries share their bootstrap draws; otherwise the common queries
    are compared by their own scores, if the metric is the mean of such scores."""
    if x.value is None or y.value is None:
        return None, x.why_undefined or y.why_undefined
    answered_a = {id for id, o in outputs_a.items() if not o.error}
    answered_b = {id for id, o in outputs_b.items() if not o.error}
    if answered_a == answered_b:
        if not (x.draws and y.draws):
            return None, "this metric is not bootstrapped"
        difference = paired(x.value, y.value, x.draws, y.draws)
        return (
            difference,
            "" if difference else "too few bootstrap draws have a value in both (is there only one picture?)",
        )
    common_ids = [id for id in outputs_a if id in answered_a & answered_b]
    own_a, own_b = _own_scores(x, outputs_a), _own_scores(y, outputs_b)
    if not headline or not common_ids or own_a is None or own_b is None:
        return None, "the runs are over different queries"
    clusters = [outputs_a[id].media or id for id in common_ids]  # records of earlier versions do not name the picture
    method = "whole pictures drawn" if all(outputs_a[id].media for id in common_ids) else "each query drawn separately"
    (mean_a, draws_a), (mean_b, draws_b) = (
        _mean_draws([values[id] for id in common_ids], clusters) for values in (own_a, own_b)
    )
    difference = paired(mean_a, mean_b, draws_a, draws_b)
    return (
        difference,
        f"over the {len(common_ids)} queries in both, {method}" if difference else "one picture in common",
    )


def _own_scores(score: Score, outputs: Mapping[str, Output]) -> dict[str, float] | None:
    """The queries' own scores, if the metric is their mean; None for corpus metrics and means of groups."""
    values = {id: o.score for id, o in outputs.items() if o.score is not None}
    n_answered = sum(not o.error for o in outputs.values())
    if (
        not values
        or len(values) != n_answered
        or not math.isclose(fmean(values.values()), score.value or 0.0, abs_tol=1e-6)
    ):
        return None
    return values


def _mean_draws(values: list[float], media: list[str]) -> tuple[float, Draws]:
    mean = fmean(values)
    _, draws = bootstrap(MetricResult(mean, tuple(values)), media)
    return mean, draws


def as_json(comparison: Comparison) -> dict[str, Any]:
    """A comparison as plain JSON."""
    value = dataclasses.asdict(comparison)
    value["a"], value["b"] = str(comparison.a.path), str(comparison.b.path)
    return {**value, "same_results": comparison.same_results}
