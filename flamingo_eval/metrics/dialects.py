"""Dialects of metrics: which one counts where task, protocol and user name one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from flamingo_eval.config.specs import MetricSpec
from flamingo_eval.errors import ConfigError, UsageError, did_you_mean
from flamingo_eval.metrics import metric_row


def dialect_of(spec: MetricSpec, protocol: str = "") -> str:
    """The dialect to use: the task's if it names one, else the protocol's, else the metric's first.

    A protocol's dialect that the metric does not have is passed over: protocols name the dialect of VQA accuracy, and
    their other tasks have other metrics. A task's unknown dialect is an error.
    """
    dialects = metric_row(spec.name).dialects
    if spec.dialect and spec.dialect not in dialects:
        hint = did_you_mean(spec.dialect, dialects)
        raise ConfigError(
            f"metric '{spec.name}' has no dialect '{spec.dialect}'. {hint}".rstrip(),
            fix=f"Known: {', '.join(dialects)}.",
        )
    return spec.dialect or (protocol if protocol in dialects else dialects[0])


def own_dialect(metrics: Sequence[MetricSpec], dialect: str) -> tuple[MetricSpec, ...]:
    """A task's metrics with the dialect that a user asks for, in the place of the task's own.

    Metrics without that dialect keep theirs. Raises UsageError, with the nearest known one, if none of them has it.
    """
    if not dialect:
        return tuple(metrics)
    dialects = dict.fromkeys(d for m in metrics for d in metric_row(m.name).dialects if d)
    if dialect not in dialects:
        names = ", ".join(m.name for m in metrics)
        fix = f"Known: {', '.join(dialects)}." if dialects else f"{names}: no dialects. Leave --dialect out."
        hint = did_you_mean(dialect, dialects)
        raise UsageError(f"--dialect {dialect}: no metric of this task has this dialect. {hint}".rstrip(), fix=fix)
    return tuple(replace(m, dialect=dialect) if dialect in metric_row(m.name).dialects else m for m in metrics)
