"""A run again, from its record: run.json -> the resolved spec, without a look at today's tasks/ and prompts/."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin

from flamingo_eval.config.specs import RunSpec
from flamingo_eval.data.roots import DataRoot, data_root
from flamingo_eval.errors import RunError
from flamingo_eval.runs.folder import SPELLED_OUT, RunFolder, read_json

_Kind = TypeVar("_Kind")


def recorded_spec(folder: RunFolder) -> RunSpec:
    """The spec a run was made with. Raises RunError for a record that this version cannot read."""
    spec = read_json(folder.run).get("spec")
    try:
        if not isinstance(spec, dict):
            raise ValueError("spec: expected an object")
        return from_json({k: v for k, v in spec.items() if k not in SPELLED_OUT}, RunSpec, "spec")
    except ValueError as error:
        raise RunError(f"{folder.run}: {error}.", fix="Was it written by another version?") from error


def from_json(value: Any, kind: type[_Kind], key: str) -> _Kind:
    """A frozen dataclass from its JSON form. Raises ValueError with the key of what does not fit."""
    return cast(_Kind, _read(value, kind, key))


def _read(value: Any, kind: Any, key: str) -> Any:
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        (inner,) = [k for k in get_args(kind) if k is not types.NoneType]
        return None if value is None else _read(value, inner, key)
    if origin is Literal:
        return _checked(value in get_args(kind), value, f"one of {', '.join(map(str, get_args(kind)))}", key)
    if origin is tuple:
        items = _checked(isinstance(value, list), value, "a list", key)
        return tuple(_read(v, get_args(kind)[0], f"{key}[{i}]") for i, v in enumerate(items))
    if isinstance(origin, type) and issubclass(origin, Mapping):
        entries = _checked(isinstance(value, dict), value, "an object", key)
        return {k: _read(v, get_args(kind)[1], f"{key}.{k}") for k, v in entries.items()}
    if dataclasses.is_dataclass(kind):
        return _dataclass(_checked(isinstance(value, dict), value, "an object", key), cast(type, kind), key)
    if kind is float and type(value) is int:
        return float(value)
    return _checked(type(value) is kind, value, kind.__name__, key)


def _checked(fits: bool, value: Any, wanted: str, key: str) -> Any:
    if not fits:
        raise ValueError(f"{key}: expected {wanted}, found {str(value)[:60]!r}")
    return value


def _dataclass(value: dict[str, Any], kind: type, key: str) -> Any:
    hints = typing.get_type_hints(kind)
    unknown = [k for k in value if k not in hints]
    if unknown:
        raise ValueError(f"{key}: unknown key {unknown[0]!r}")
    missing = [
        f.name
        for f in dataclasses.fields(kind)
        if f.name not in value and f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise ValueError(f"{key}: {missing[0]} is missing")
    return kind(**{k: _read(v, hints[k], f"{key}.{k}") for k, v in value.items()})


def data_of(spec: RunSpec, data: str | None, images: tuple[str, ...] = ()) -> DataRoot:
    """The data root of a recorded run: the sample, or what the user gives. Records hold no machine paths."""
    from flamingo_eval.config.settings import is_sample

    if not is_sample(spec.data) and data is None:
        raise RunError(
            f"the run was over '{spec.data}', whose place the record does not hold.", fix="Give it with --data DIR."
        )
    return data_root(spec.data if is_sample(spec.data) else str(data), spec.task.name, images)
