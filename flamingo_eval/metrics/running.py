"""The score so far, for the progress bar: only for metrics that are a mean of quick per-example values."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

from flamingo_eval.config.specs import MetricSpec
from flamingo_eval.metrics import load_metric, metric_row
from flamingo_eval.metrics.dialects import dialect_of
from flamingo_eval.records import Example, Output, Prediction, Split


class RunningScore:
    """Mean of the headline metric over the queries finished so far; empty for corpus metrics."""

    def __init__(self, metric: MetricSpec, dialect: str, split: Split) -> None:
        self.metric, self.split = metric, split
        self.dialect = dialect_of(metric, dialect)
        self.quick = metric_row(metric.name).quick and split.labelled
        self.total, self.n = 0.0, 0

    @cached_property
    def _examples(self) -> Mapping[str, Example]:
        return {e.id: e for e in self.split.examples}

    def add(self, output: Output) -> None:
        """Add one finished query."""
        example = self._examples.get(output.id)
        if not self.quick or output.error or example is None:
            return
        prediction = Prediction.of(output)
        value = load_metric(self.metric.name)([prediction], [example], self.dialect).per_example[0]
        if value is not None:
            self.total += value
            self.n += 1

    def __str__(self) -> str:
        return f"{self.metric.name} {self.total / self.n:.1f}" if self.n else ""
