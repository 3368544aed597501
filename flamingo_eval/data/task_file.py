"""A task file (tasks/NAME.yaml) -> TaskSpec, with its metrics and layout checked against the tables of both."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path

from flamingo_eval.config.load import load_spec
from flamingo_eval.config.specs import MetricSpec, TaskSpec
from flamingo_eval.data.layouts import LAYOUTS
from flamingo_eval.errors import ConfigError
from flamingo_eval.files import sha256_file
from flamingo_eval.metrics import METRICS, own


class _MetricNames(Collection[str]):
    """The shipped metrics, and every `FILE.py:FUNCTION`."""

    def __contains__(self, name: object) -> bool:
        return name in METRICS or (isinstance(name, str) and own.is_own(name))

    def __iter__(self) -> Iterator[str]:
        return iter(METRICS)

    def __len__(self) -> int:
        return len(METRICS)


def load_task(path: Path) -> TaskSpec:
    """Read one task file; ConfigError lists every problem in it, unknown metrics and layouts among them.

    The user's own metrics get the hash of their file, which is next to the task's; their code does not run.
    """
    names = {"metrics[].name": ("metric", _MetricNames()), "data.layout": ("layout", LAYOUTS)}
    task = load_spec(path, TaskSpec, names)
    return replace(task, metrics=tuple(_with_code(metric, path) for metric in task.metrics))


def _with_code(metric: MetricSpec, task: Path) -> MetricSpec:
    if metric.code:
        raise ConfigError(f"{task}: metrics, {metric.name}: unknown key 'code'.", fix="Keys here: dialect, name.")
    if not own.is_own(metric.name):
        return metric
    file = code_file(metric, task)
    try:
        return replace(metric, code=sha256_file(file))
    except OSError as error:
        fix = "The path is relative to the task file."
        raise ConfigError(f"{task}: metric {metric.name}: {file}: {error.strerror}.", fix=fix) from error


def code_file(metric: MetricSpec, task: Path) -> Path:
    """The file of the user's own metric; its path is relative to the task file."""
    return task.parent / metric.name.rpartition(":")[0]


def use_own_metrics(task: TaskSpec, path: Path) -> list[str]:
    """Load the code of a task's own metrics; returns a line for each. Raises ConfigError."""
    lines = []
    for metric in task.metrics:
        if own.is_own(metric.name):
            used = own.use(metric.name, code_file(metric, path), metric.code, task.mode)
            lines.append(f"metric {metric.name}: the code of {used.path} runs in this process")
    return lines
