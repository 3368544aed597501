"""The deployment of a model: its device and the processes that share the work."""

from __future__ import annotations

from dataclasses import dataclass

from flamingo_eval.backends.choice import ModelChoice

LOCAL = "local"  # `--ray`: start it on this machine


@dataclass(frozen=True, slots=True)
class Deployment:
    """Which model answers, on which device, and in how many processes; the command line's options."""

    model: str | ModelChoice
    device: str = "auto"
    dtype: str = "auto"
    batch_size: str = "auto"
    workers: int | None = None
    ray: str | None = None
    replicas: str = "auto"
    gpus_per_replica: int | None = None
    tensor_parallel: int = 1  # ranks of torchrun that share one model
