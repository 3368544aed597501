"""Features of pictures as `get_image_features` returns them: joined, trimmed, changed tensor by tensor."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

FEATURES = "pooler_output"
HIDDEN = "last_hidden_state"  # what families without pooled features (Llama 4) read instead


def joined_features(outputs: Sequence[Any]) -> Any:
    """Features of several pictures as one output, in order: lists and tensors concatenated along the first axis."""
    if len(outputs) == 1:
        return outputs[0]
    fields = {name: _joined([o[name] for o in outputs], name) for name in outputs[0]}
    return type(outputs[0])(**fields)


def _joined(values: Sequence[Any], name: str) -> Any:
    first = values[0]
    if isinstance(first, Tensor):
        return torch.cat(list(values), dim=0)
    if name == FEATURES:  # a tensor a picture
        return [item for value in values for item in value]
    layers = zip(*values, strict=True)  # by layer: a tensor, or one a picture
    return [
        torch.cat(list(layer), dim=0) if isinstance(layer[0], Tensor) else [item for value in layer for item in value]
        for layer in layers
    ]


def kept_features(output: Any) -> Any:
    """The part of `get_image_features`' output that a forward pass reads: the features, also by layer."""
    fields: Mapping[str, Any] = {
        name: value for name, value in output.items() if name == features_name(output) or name.startswith("deepstack")
    }
    return type(output)(**fields)


def of_one_picture(output: Any) -> Any:
    """The features of one picture, in one tensor where each of its crops has its own: every picture's have one form."""
    return type(output)(**{name: _of_crops(value, name) for name, value in output.items()})


def _of_crops(value: Any, name: str) -> Any:
    if isinstance(value, Tensor):
        return value
    if name == FEATURES:
        return [value[0] if len(value) == 1 else torch.cat([item.reshape(-1, item.shape[-1]) for item in value])]
    return [layer if isinstance(layer, Tensor) else _of_crops(layer, FEATURES) for layer in value]


def features_name(output: Any) -> str:
    """The name under which `get_image_features` returns what stands in the place of a picture's tokens."""
    return FEATURES if output.get(FEATURES) is not None else HIDDEN


def mapped(output: Any, change: Callable[[str, Any], Any]) -> Any:
    """The output with every tensor changed; `change` gets the tensor's name and the tensor."""
    return type(output)(**{name: _mapped(value, name, change) for name, value in output.items()})


def _mapped(value: Any, name: str, change: Callable[[str, Any], Any]) -> Any:
    if isinstance(value, (list, tuple)):
        return [_mapped(item, f"{name}.{i}", change) for i, item in enumerate(value)]
    return change(name, value)


def tensor_names(output: Any) -> list[str]:
    """Names of all tensors of an output, as `mapped` gives them."""
    names: list[str] = []

    def note(name: str, tensor: Any) -> Any:
        names.append(name)
        return tensor

    mapped(output, note)
    return names
