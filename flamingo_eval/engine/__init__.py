"""What makes evaluation fast: pictures encoded once, prompts prefilled once, beams and candidates as branches."""

from __future__ import annotations

import os

from flamingo_eval.config.settings import cache_bytes, cache_dir
from flamingo_eval.engine.engine import Engine
from flamingo_eval.engine.plain_engine import PlainEngine
from flamingo_eval.engine.vision_cache import VisionCache
from flamingo_eval.errors import UsageError
from flamingo_eval.models.loaded import LoadedModel

__all__ = ["Engine", "PlainEngine", "VisionCache", "build_engine", "default_workers", "engine_of", "rows_of"]


def build_engine(
    model: LoadedModel, batch_size: str | int | None = "auto", workers: int | None = None
) -> Engine | PlainEngine:
    """The engine of a run, with visual tokens cached on disk and as many picture processes as the machine allows.

    `batch_size` is `auto` or a number of prompts; `workers` None: by the machine. Raises UsageError.
    """
    rows = rows_of(batch_size)
    cache = VisionCache(vision_namespace(model), cache_dir() / "vision", disk_bytes=cache_bytes())
    return engine_of(model, rows, cache, default_workers(model) if workers is None else workers)


def engine_of(
    model: LoadedModel, rows: int | None = None, cache: VisionCache | None = None, workers: int = 0
) -> Engine | PlainEngine:
    """The engine that the model's architecture allows; PlainEngine ignores the other arguments."""
    if model.config.xattn.sees == "all":
        return PlainEngine(model)
    return Engine(model, rows, cache=cache, workers=workers)


def default_workers(model: LoadedModel) -> int:
    """Number of processes that open pictures: none if the model itself runs on the CPU."""
    return 0 if model.device.type == "cpu" else min(8, max(1, (os.cpu_count() or 2) - 1))


def vision_namespace(model: LoadedModel) -> str:
    """Everything but the picture's content that its visual tokens depend on."""
    return f"{model.sha256} {model.config.preprocess!r} {model.dtype} {model.device.type}"


def rows_of(batch_size: str | int | None) -> int | None:
    """`auto` -> None, a number from 1 -> itself. Raises UsageError."""
    if batch_size in (None, "auto"):
        return None
    if not str(batch_size).isdigit() or int(batch_size) < 1:
        raise UsageError(f"--batch-size {batch_size}: give `auto` or a number from 1.")
    return int(batch_size)
