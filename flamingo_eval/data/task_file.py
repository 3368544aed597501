"""A task file (tasks/NAME.yaml) -> TaskSpec, with its metrics and layout checked against the tables of both."""

from __future__ import annotations

from pathlib import Path

from flamingo_eval.config.load import load_spec
from flamingo_eval.config.specs import TaskSpec
from flamingo_eval.data.layouts import LAYOUTS
from flamingo_eval.metrics import METRICS


def load_task(path: Path) -> TaskSpec:
    """Read one task file; ConfigError lists every problem in it, unknown metrics and layouts among them."""
    return load_spec(path, TaskSpec, {"metrics[].name": ("metric", METRICS), "data.layout": ("layout", LAYOUTS)})
