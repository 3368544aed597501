"""The processor's output for each picture and clip, computed once; a stand-in returns it while a prompt is tokenised.

The number of tokens of a picture depends only on the picture, the model and its options, so no picture is opened twice
to count it. Fields of a prompt's pictures are concatenated along an axis that differs by family; it is found by
comparing the output for one picture and for two. All this holds for clips and the video processor too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from PIL import Image as PillowImage
from torch import Tensor

# while a prompt is tokenised, only the shape of these matters
PIXELS = ("pixel_values", "pixel_values_videos", "pixel_values_local", "pixel_attention_mask")
Field: TypeAlias = Any  # a tensor, or a list (of lists) of numbers


@dataclass(frozen=True, slots=True)
class PictureFields:
    """The image processor's output for one picture, with pixels as empty tensors that need no memory."""

    fields: Mapping[str, Field]


@dataclass(frozen=True, slots=True)
class Layout:
    """By field: the axis along which a prompt's pictures are concatenated, -1 for their number, None for a constant."""

    axes: Mapping[str, int | None]

    @classmethod
    def learned(cls, one: Mapping[str, Field], two: Mapping[str, Field]) -> Layout:
        """From the image processor's output for one picture and for the same picture twice."""
        return cls({name: _axis(one[name], two[name]) for name in one if name in two})

    def first(self, two: Mapping[str, Field]) -> dict[str, Field]:
        """The first of two pictures."""
        return {name: _first(two[name], axis) for name, axis in self.axes.items() if name in two}

    def joined(self, pictures: Sequence[PictureFields]) -> dict[str, Field]:
        """The fields of a prompt from those of its pictures, in order; not every picture needs to have all of them."""
        names = dict.fromkeys(name for p in pictures for name in (*self.axes, *p.fields) if name in p.fields)
        return {name: _joined(_of_each(pictures, name), self.axes.get(name, 0), name) for name in names}


def _of_each(pictures: Sequence[PictureFields], name: str) -> list[Field]:
    """A field of each picture that has it. A list has an entry for every picture: an empty one for the others."""
    present = [p.fields[name] for p in pictures if name in p.fields]
    if len(present) == len(pictures) or isinstance(present[0], Tensor):
        return present
    return [p.fields.get(name, [[]]) for p in pictures]


def _axis(one: Field, two: Field) -> int | None:
    a, b = _shape(one), _shape(two)
    for axis in range(min(2, len(a), len(b))):
        if b[axis] == 2 * a[axis] or (axis == 0 and a[0] == 1 and b[0] == 2):
            return axis
    if a == b and a in ((), (1,)) and int(torch.as_tensor(two)) == 2 * int(torch.as_tensor(one)) == 2:
        return -1
    return None


def _shape(value: Field) -> tuple[int, ...]:
    if isinstance(value, Tensor):
        return tuple(value.shape)
    if isinstance(value, (list, tuple)):
        inner = value[0] if value else None
        return (len(value), *(_shape(inner) if isinstance(inner, (list, tuple, Tensor)) else ()))
    return ()


def _first(value: Field, axis: int | None) -> Field:
    if axis == -1:
        return torch.ones_like(value) if isinstance(value, Tensor) else [1]
    if axis is None:
        return value
    if isinstance(value, Tensor):
        return value.narrow(axis, 0, value.shape[axis] // 2)
    return value[: len(value) // 2] if axis == 0 else [row[: len(row) // 2] for row in value]


def _joined(values: Sequence[Field], axis: int | None, name: str) -> Field:
    if axis == -1:
        return torch.tensor([len(values)]) if isinstance(values[0], Tensor) else [len(values)]
    if axis is None:
        return values[0]
    if not isinstance(values[0], Tensor):
        if axis == 0:
            return [item for value in values for item in value]
        return [[item for value in values for item in value[0]]]
    if name not in PIXELS:
        return torch.cat(list(values), dim=axis)
    shape = [max(sizes) for sizes in zip(*(v.shape for v in values), strict=True)]
    shape[axis] = sum(v.shape[axis] for v in values)
    return torch.zeros(1, dtype=values[0].dtype).expand(*shape)


def light(fields: Mapping[str, Field]) -> PictureFields:
    """The fields, with pixels replaced by tensors of the same shape that need no memory."""
    return PictureFields(
        {
            name: torch.zeros(1, dtype=v.dtype).expand(*v.shape) if name in PIXELS and isinstance(v, Tensor) else v
            for name, v in fields.items()
        }
    )


def fields_to_bytes(picture: PictureFields) -> Tensor | None:
    """The fields as uint8[N], for a cache of tensors; None if one is neither a tensor, a list nor a clip's metadata."""
    values: dict[str, dict[str, Any]] = {}
    for name, value in picture.fields.items():
        if isinstance(value, Tensor):
            numbers = {} if name in PIXELS else {"numbers": value.flatten().tolist()}
            values[name] = {"shape": list(value.shape), "dtype": str(value.dtype).removeprefix("torch."), **numbers}
        elif isinstance(value, list) and value and all(isinstance(v, Mapping) for v in value):
            values[name] = {"clips": [dict(v) for v in value]}
        elif isinstance(value, (list, int, float)):
            values[name] = {"plain": value}
        else:
            return None
    try:
        text = json.dumps(values, allow_nan=False)
    except (TypeError, ValueError):
        return None
    return torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8)


def fields_from_bytes(content: Tensor) -> PictureFields:
    """What `fields_to_bytes` wrote."""
    from transformers.video_utils import VideoMetadata

    fields: dict[str, Field] = {}
    for name, value in json.loads(content.numpy().tobytes()).items():
        if "plain" in value:
            fields[name] = value["plain"]
            continue
        if "clips" in value:
            fields[name] = [VideoMetadata(**entry) for entry in value["clips"]]
            continue
        dtype = getattr(torch, value["dtype"])
        if "numbers" in value:
            fields[name] = torch.tensor(value["numbers"], dtype=dtype).reshape(value["shape"])
        else:
            fields[name] = torch.zeros(1, dtype=dtype).expand(*value["shape"])
    return PictureFields(fields)


class StandIn:
    """Replaces the image or video processor: returns the known output, or calls the original and stores its output."""

    def __init__(self, original: Any, known: Mapping[str, Field] | None = None) -> None:
        self.original, self.known = original, known
        self.returned: dict[str, Field] = {}

    def __call__(self, images: Any, *args: Any, **options: Any) -> Any:
        from transformers import BatchFeature

        if self.known is not None:
            return BatchFeature(data=dict(self.known))
        out = self.original(images, *args, **options)
        self.returned = dict(out) if isinstance(out, Mapping) else {}  # IDEFICS' returns pixels alone
        return out

    @property
    def fields(self) -> Mapping[str, Field]:
        """The output, known or returned by the original."""
        return self.returned or self.known or {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self.original, name)


def blank_pictures(n: int) -> list[PillowImage.Image]:
    """Placeholder pictures for a processor that only counts them."""
    return [PillowImage.new("RGB", (8, 8))] * n
