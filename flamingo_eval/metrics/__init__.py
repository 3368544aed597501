"""Metrics: one protocol a file, pinned to the values of the benchmark's own scorer. METRICS is the table.

A metric is a function `(predictions, examples, dialect) -> MetricResult` over aligned sequences, on the 0-100 scale of
published tables. What it reads of an example beyond `references`, `target` and `candidates` stands in
`Example.labels`, under the names that its docstring gives.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Protocol

from flamingo_eval.errors import ConfigError, did_you_mean
from flamingo_eval.metrics.stats import bootstrap
from flamingo_eval.records import Example, MetricResult, Prediction, Score
from flamingo_eval.specs import MetricSpec


class Metric(Protocol):
    """What every metric is."""

    def __call__(
        self, predictions: Sequence[Prediction], examples: Sequence[Example], dialect: str = ""
    ) -> MetricResult: ...


@dataclass(frozen=True, slots=True)
class MetricRow:
    """Where a metric lives and which dialects it has; the first is what an empty dialect means."""

    path: str
    dialects: tuple[str, ...] = ("",)
    quick: bool = True  # cheap enough to be shown while a run goes on (no Java, no corpus statistics)


METRICS: Mapping[str, MetricRow] = {
    "vqa_accuracy": MetricRow(
        "flamingo_eval.metrics.vqa:vqa_accuracy",
        ("official", "openflamingo", "always_normalised", "textvqa", "vizwiz", "prophet"),
    ),
    "cider": MetricRow("flamingo_eval.metrics.captions:cider", quick=False),
    "bleu": MetricRow("flamingo_eval.metrics.captions:bleu", quick=False),
    "rouge_l": MetricRow("flamingo_eval.metrics.captions:rouge_l", quick=False),
    "meteor": MetricRow("flamingo_eval.metrics.captions:meteor", quick=False),
}


def metric_row(name: str) -> MetricRow:
    """A row of METRICS. Raises ConfigError with the nearest known name."""
    if name not in METRICS:
        hint = did_you_mean(name, METRICS)
        raise ConfigError(f"unknown metric '{name}'. {hint}".rstrip(), fix=f"Known: {', '.join(METRICS)}.")
    return METRICS[name]


@cache
def load_metric(name: str) -> Metric:
    """The function of a metric, imported on first use."""
    module, function = metric_row(name).path.split(":")
    metric: Metric = getattr(import_module(module), function)
    return metric


def dialect_of(spec: MetricSpec, protocol: str = "") -> str:
    """The dialect that counts: the task's where it names one, else the protocol's, else the metric's first.

    A protocol's dialect that the metric does not have is passed over: protocols name the dialect of VQA accuracy, and
    their other tasks have other metrics. A task's unknown dialect is an error.
    """
    known = metric_row(spec.name).dialects
    if spec.dialect and spec.dialect not in known:
        hint = did_you_mean(spec.dialect, known)
        raise ConfigError(
            f"metric '{spec.name}' has no dialect '{spec.dialect}'. {hint}".rstrip(), fix=f"Known: {', '.join(known)}."
        )
    return spec.dialect or (protocol if protocol in known else known[0])


def score_all(
    predictions: Sequence[Prediction],
    examples: Sequence[Example],
    metrics: Sequence[MetricSpec],
    *,
    dialect: str = "",
    n_failed: int = 0,
) -> tuple[list[Score], list[float | None]]:
    """Every metric of a task with its interval, and the per-example values of the first (the headline).

    `dialect` is the protocol's wish for metrics whose task names none. Predictions and examples are aligned.
    """
    scores: list[Score] = []
    headline: list[float | None] = [None] * len(predictions)
    for i, spec in enumerate(metrics):
        chosen = dialect_of(spec, dialect)
        if not predictions:
            why = "no query was answered"
            scores.append(Score(spec.name, None, 0, n_failed, why_undefined=why))
            continue
        result = load_metric(spec.name)(predictions, examples, chosen)
        ci95, draws = bootstrap(result, [e.media_id for e in examples])
        notes = {"dialect": chosen, **result.notes} if chosen else dict(result.notes)
        scores.append(
            Score(
                spec.name,
                result.value,
                len(predictions),
                n_failed,
                ci95,
                result.why_undefined,
                dict(result.breakdown),
                notes,
                draws,
            )
        )
        if i == 0:
            headline = list(result.per_example)
    return scores, headline
