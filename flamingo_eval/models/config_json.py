"""FlamingoConfig <-> config.json. Unknown keys, missing keys and wrong types are reported together, as one error."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flamingo_eval.errors import CheckpointError, Problem, problems_in
from flamingo_eval.files import read_json_object, write_atomically
from flamingo_eval.models.config import LARGEST_SIZE, EncoderConfig, FlamingoConfig, PoolingConfig
from flamingo_eval.schema import JsonTree, Rules, read


def write_config(config: FlamingoConfig | EncoderConfig, path: Path) -> None:
    """Write every value, defaults included, so that a checkpoint does not change when a default changes."""
    write_atomically(path, json.dumps(dataclasses.asdict(config), indent=2) + "\n")


NONE_AT_ZERO = (
    "frames",
    "final_width",
    "trained_from",
    "head_rows",
)  # fields for which 0 is a choice, though not the default


def read_config(path: Path) -> FlamingoConfig:
    """The configuration in our config.json. Raises CheckpointError that names every wrong key."""
    values = read_json(path)
    if "model_type" in values or "architectures" in values:
        raise CheckpointError(
            f"{path}: this is a Hugging Face folder, not a flamingo-eval checkpoint.",
            fix="Make one from it with `flamingo-eval convert openflamingo` or `flamingo-eval convert idefics`.",
        )
    config = read(JsonTree(values), FlamingoConfig, path, CheckpointError, Rules(complete=True))
    _require_sizes(config, path)
    positions = config.vision.positions
    if isinstance(config.resampler, PoolingConfig) and math.isqrt(positions) ** 2 != positions:
        what = f"{positions} positions of the encoder do not form a square."
        raise problems_in(path, [Problem(what, path, key="resampler.kind")], CheckpointError)
    return config


def read_encoder_config(path: Path) -> EncoderConfig:
    """The configuration of a vision encoder alone. Raises CheckpointError that names every wrong key."""
    config = read(JsonTree(read_json(path)), EncoderConfig, path, CheckpointError, Rules(complete=True))
    _require_sizes(config, path)
    return config


def _require_sizes(config: FlamingoConfig | EncoderConfig, path: Path) -> None:
    """Raise CheckpointError that names every number that no network can have: negative, zero or far too large."""
    problems = [
        Problem(f"expected {least} or more, got {number}.", path, key=key)
        if number < least
        else Problem(f"expected at most {LARGEST_SIZE}, got {number}.", path, key=key)
        for key, number, least in _numbers(config)
        if number < least or (isinstance(number, int) and number > LARGEST_SIZE)
    ]
    if problems:
        raise problems_in(path, problems, CheckpointError)


def _numbers(config: Any, prefix: str = "") -> Iterator[tuple[str, float, int]]:
    """The key of every number, its value, and the smallest value allowed: 0 where 0 means `none` or is a rate."""
    for field in dataclasses.fields(config):
        value, key = getattr(config, field.name), f"{prefix}{field.name}"
        if dataclasses.is_dataclass(value):
            yield from _numbers(value, f"{key}.")
            continue
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, int) and not isinstance(number, bool):
                yield key, number, 0 if field.default in (0, None) or field.name in NONE_AT_ZERO else 1
            elif isinstance(number, float) and field.name not in ("mean", "std"):
                yield key, number, 0


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file of a checkpoint. Raises CheckpointError."""
    return read_json_object(path, CheckpointError)
