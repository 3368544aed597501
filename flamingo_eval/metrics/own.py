"""Your own metrics: `metrics: [{name: my_metric.py:contains}]` in a task file that is given by its path.

The names of the function's parameters decide between two forms:

- `contains(prediction, references)`: for one query, the answer (str) and its references (list of str) -> a number of at
  least 0, on the scale of tables (0 to 100 for a share). The metric is the mean. Only for open-ended tasks.
- `mine(predictions, examples)`: for all queries, like the shipped metrics -> a number for each query (None: not
  counted), or a MetricResult.

The code runs in this process, and only `use` loads it: reading a task file or a record executes nothing.
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from flamingo_eval.config.own_code import called, load_module
from flamingo_eval.config.specs import Mode
from flamingo_eval.errors import ConfigError, MetricError, did_you_mean
from flamingo_eval.records import Example, MetricResult, Prediction

NAME = re.compile(r".+\.py:[^\W\d]\w*")
FORMS = (("prediction", "references"), ("predictions", "examples"))
HOW = "Write NAME(prediction, references) for one query, or NAME(predictions, examples) for all (docs/own-prompts.md)."


def is_own(name: str) -> bool:
    """Whether the name of a metric names a function in a file: `my_metric.py:contains`."""
    return NAME.fullmatch(name) is not None


@dataclass(frozen=True, slots=True)
class OwnMetric:
    """A loaded function as a metric. `each`: it is called for one query at a time."""

    name: str
    path: Path
    digest: str
    function: Callable[..., Any]
    each: bool
    needs: Literal["text", "scores"]

    def __call__(
        self, predictions: Sequence[Prediction], examples: Sequence[Example], dialect: str = ""
    ) -> MetricResult:
        """Raises MetricError if the function raises, or if a value is not a number of at least 0."""
        if self.each:
            pairs = zip(predictions, examples, strict=True)
            return self._mean([self._value_of(p, e) for p, e in pairs], [e.id for e in examples])
        result = called(lambda: self.function(predictions, examples), self.name, MetricError)
        if isinstance(result, MetricResult):
            values = [result.value, *result.per_example]
            ids = ["all queries", *(e.id for e in examples)]
            self._checked(values, ids)
            return result
        if not isinstance(result, Iterable) or isinstance(result, (str, bytes, Mapping)):  # arrays are fine
            raise MetricError(f"{self.name}: expected a list of {len(examples)} numbers, got {result!r:.60}.")
        return self._mean(list(result), [e.id for e in examples])

    def _value_of(self, prediction: Prediction, example: Example) -> Any:
        what = f"{self.name}, query {example.id}"
        return called(lambda: self.function(prediction.text or "", list(example.references)), what, MetricError)

    def _mean(self, values: Sequence[Any], ids: Sequence[str]) -> MetricResult:
        from flamingo_eval.metrics.bootstrap import mean_of  # imports NumPy, which no table of metrics needs

        numbers = self._checked(values, ids)
        mean = mean_of(numbers)
        why = "" if mean is not None else "no query has a value"
        return MetricResult(mean, tuple(numbers), why_undefined=why)

    def _checked(self, values: Sequence[Any], ids: Sequence[str]) -> list[float | None]:
        if len(values) != len(ids):
            raise MetricError(f"{self.name}: expected a number for each of {len(ids)} queries, got {len(values)}.")
        numbers: list[float | None] = []
        for value, id in zip(values, ids, strict=True):
            try:
                number = None if value is None else float(value)
            except (TypeError, ValueError, OverflowError):
                number = math.nan
            if number is not None and not (math.isfinite(number) and number >= 0):
                raise MetricError(f"{self.name}, query {id}: expected a number of at least 0, got {value!r:.60}.")
            if value is None and self.each:
                raise MetricError(f"{self.name}, query {id}: expected a number, got None.")
            numbers.append(number)
        return numbers


_loaded: dict[str, OwnMetric] = {}


def loaded(name: str) -> OwnMetric:
    """A metric that `use` has loaded. Raises ConfigError if it has not."""
    if name not in _loaded:
        raise ConfigError(
            f"metric '{name}' is your own code, which only its task file loads.",
            fix="Give the task by its file: flamingo-eval run ./my_task.yaml.",
        )
    return _loaded[name]


def use(name: str, path: Path, digest: str, mode: Mode) -> OwnMetric:
    """Execute the file of a metric and register its function by its name. Raises ConfigError.

    `digest`: the sha256 of the file; `mode`: of the task.
    """
    loaded_metric = _loaded.get(name)
    if loaded_metric is not None and loaded_metric.digest != digest and loaded_metric.path.resolve() != path.resolve():
        raise ConfigError(
            f"duplicate metric name {name}: {loaded_metric.path} and {path}.", fix="Rename one of the files."
        )
    function_name = name.rpartition(":")[2]
    module = load_module(path, digest, ConfigError)
    function = getattr(module, function_name, None)
    if not callable(function):
        names = [n for n, v in vars(module).items() if inspect.isfunction(v)]
        hint = did_you_mean(function_name, names)
        raise ConfigError(f"{path}: no function '{function_name}' in the file. {hint}".rstrip())
    parameters = tuple(inspect.signature(function).parameters)[:2]
    if parameters not in FORMS:
        raise ConfigError(
            f"{path}: {function_name}({', '.join(parameters)}): unknown form of a metric.",
            fix=HOW.replace("NAME", function_name),
        )
    each = parameters == FORMS[0]
    if each and mode == "close-ended":
        raise ConfigError(
            f"{path}: {function_name}(prediction, references) scores texts, but the task ranks candidates.",
            fix=f"Write {function_name}(predictions, examples).",
        )
    _loaded[name] = OwnMetric(name, path, digest, function, each, "text" if mode == "open-ended" else "scores")
    return _loaded[name]
