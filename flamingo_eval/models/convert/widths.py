"""Widths of a language model from its weights, for when its config.json contradicts them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from flamingo_eval.models.convert.foreign_weights import ForeignTensor, Weights
from flamingo_eval.models.convert.hf_config import ForeignConfig


@dataclass(frozen=True, slots=True)
class Width:
    """A width with its key (or keys): the size of a tensor along `dim`, minus `extra`."""

    keys: tuple[str, ...]
    tensor: str
    dim: int
    extra: int = 0


def take_widths(config: ForeignConfig, widths: Sequence[Width], weights: Weights) -> ForeignConfig:
    """The configuration with the widths of the weights; each contradiction becomes a note."""
    values = dict(config.values)
    notes = list(config.notes)
    for width in widths:
        stored = weights.get(width.tensor)
        if stored is None or len(stored.shape) <= width.dim:
            continue
        size = stored.shape[width.dim] - width.extra
        key = next((key for key in width.keys if values.get(key) is not None), width.keys[0])
        config_value = values.get(key)
        if config_value is not None and type(config_value) is not int:
            continue  # reported when the key is read
        if config_value is not None and config_value != size:
            notes.append(contradiction(config, key, str(config_value), size, stored))
        values[key] = size
    updated = ForeignConfig(config.path, values)
    updated.problems, updated.notes = config.problems, notes
    return updated


def contradiction(config: ForeignConfig, key: str, config_value: str, size: int, tensor: ForeignTensor) -> str:
    """The note that the configuration contradicts the weights."""
    return (
        f"{config.path.name}: {key} says {config_value}, but {tensor.name} of {tensor.file.name} has shape "
        f"{list(tensor.shape)}: {size} is used."
    )
