"""FlamingoConfig <-> config.json. Unknown keys, missing keys and wrong types are reported together, as one error."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

from flamingo_eval.errors import CheckpointError, Problem, problems_in
from flamingo_eval.files import read_json_object, write_atomically
from flamingo_eval.models.config import EncoderConfig, FlamingoConfig, PoolingConfig
from flamingo_eval.schema import JsonTree, Rules, read


def write_config(config: FlamingoConfig | EncoderConfig, path: Path) -> None:
    """Write every value, defaults included, so that a checkpoint does not change when a default changes."""
    write_atomically(path, json.dumps(dataclasses.asdict(config), indent=2) + "\n")


def read_config(path: Path) -> FlamingoConfig:
    """The configuration in our config.json. Raises CheckpointError that names every wrong key."""
    values = read_json(path)
    if "model_type" in values or "architectures" in values:
        raise CheckpointError(
            f"{path}: this is a Hugging Face folder, not a flamingo-eval checkpoint.",
            fix="Make one from it with `flamingo-eval convert openflamingo` or `flamingo-eval convert idefics`.",
        )
    config = read(JsonTree(values), FlamingoConfig, path, CheckpointError, Rules(complete=True))
    positions = config.vision.positions
    if isinstance(config.resampler, PoolingConfig) and math.isqrt(positions) ** 2 != positions:
        what = f"{positions} positions of the encoder do not form a square."
        raise problems_in(path, [Problem(what, path, key="resampler.kind")], CheckpointError)
    return config


def read_encoder_config(path: Path) -> EncoderConfig:
    """The configuration of a vision encoder alone. Raises CheckpointError that names every wrong key."""
    return read(JsonTree(read_json(path)), EncoderConfig, path, CheckpointError, Rules(complete=True))


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file of a checkpoint. Raises CheckpointError."""
    return read_json_object(path, CheckpointError)
