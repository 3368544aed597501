"""FlamingoConfig <-> config.json. Unknown keys, missing keys and wrong types are errors, all of them at once."""

from __future__ import annotations

import dataclasses
import json
import math
import types
import typing
from pathlib import Path
from typing import Any, Literal, Union, cast, get_args, get_origin

from flamingo_eval.errors import CheckpointError, Problem, did_you_mean, problems_in
from flamingo_eval.files import RepeatedKeyError, agreed, placeholder
from flamingo_eval.models.config import FlamingoConfig, PoolingConfig

# Choices that came later, with what a file written before them means
ADDED: dict[str, Any] = {
    "resampler.kind": "perceiver",
    "xattn.sees": "last",
    "decoder.head_norm": False,
    "decoder.rotary_scaling": None,
    "tokens.trained_from": None,
    "vision.has_class_token": True,
    "vision.patch_bias": False,
    "vision.norm_in": True,
}

_NAMES: dict[type, str] = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}


def write_config(config: FlamingoConfig, path: Path) -> None:
    """Write every value, defaults included: a checkpoint must not change when a default does."""
    path.write_text(json.dumps(dataclasses.asdict(config), indent=2) + "\n", encoding="utf-8")


def read_config(path: Path) -> FlamingoConfig:
    """The configuration in a config.json of ours. Raises CheckpointError naming every wrong key."""
    values = read_json(path)
    if "model_type" in values or "architectures" in values:
        raise CheckpointError(
            f"{path}: this is a Hugging Face folder, not one of ours.",
            fix="Make one from it with `flamingo-eval convert openflamingo` or `flamingo-eval convert idefics`.",
        )
    for key, before in ADDED.items():
        part, name = key.split(".")
        if part == "vision" and isinstance(values.get(part), dict) and values[part].get("kind") != "vit":
            continue
        if isinstance(values.get(part), dict):
            values[part].setdefault(name, before)
    problems: list[Problem] = []
    config = _read(values, FlamingoConfig, "", problems)
    if isinstance(config, FlamingoConfig) and isinstance(config.resampler, PoolingConfig):
        positions = config.vision.positions
        if math.isqrt(positions) ** 2 != positions:
            problems.append(Problem(f"{positions} positions of the encoder are no square.", key="resampler.kind"))
    if problems:
        raise problems_in(path, problems, CheckpointError)
    return cast(FlamingoConfig, config)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file that holds an object. Raises CheckpointError."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=agreed)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: there is no such file.") from error
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}.") from error
    except RepeatedKeyError as error:
        raise CheckpointError(f"{path}: {error}.", fix="Keep the right one.") from error
    except (ValueError, RecursionError) as error:
        if instead := placeholder(path):
            raise CheckpointError(f"{path}: {instead}") from error
        # not UTF-8, not JSON, a number of thousands of digits, nested deeply
        raise CheckpointError(f"{path}: not JSON: {error}.") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{path}: expected an object, found {type(values).__name__}.")
    return values


def _read(value: Any, kind: Any, key: str, problems: list[Problem]) -> Any:
    """`value` as `kind`, or None after noting what is wrong with it."""
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        return _read_union(value, get_args(kind), key, problems)
    if origin is Literal:
        if value in get_args(kind):
            return value
        fix = did_you_mean(str(value), map(str, get_args(kind)))
        problems.append(Problem(f"{value!r} is none of {', '.join(map(repr, get_args(kind)))}.", key=key, fix=fix))
        return None
    if origin is tuple:
        if isinstance(value, list):
            return tuple(_read(v, get_args(kind)[0], f"{key}[{i}]", problems) for i, v in enumerate(value))
        problems.append(Problem(f"expected a list, found {value!r}.", key=key))
        return None
    if dataclasses.is_dataclass(kind):
        return _read_spec(value, cast(type, kind), key, problems)
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        problems.append(Problem(f"expected {_NAMES[kind]}, found {value!r}.", key=key))
        return None
    return value


def _read_union(value: Any, kinds: tuple[Any, ...], key: str, problems: list[Problem]) -> Any:
    if value is None and type(None) in kinds:
        return None
    kinds = tuple(k for k in kinds if k is not type(None))
    if len(kinds) == 1:
        return _read(value, kinds[0], key, problems)
    by_kind = {k.kind: k for k in (_with_defaults(k) for k in kinds)}
    name = value.get("kind") if isinstance(value, dict) else None
    if name not in by_kind:
        problems.append(Problem(f"{name!r} is none of {', '.join(by_kind)}.", key=f"{key}.kind"))
        return None
    return _read(value, type(by_kind[name]), key, problems)


def _with_defaults(kind: Any) -> Any:
    return kind()


def _read_spec(value: Any, kind: type, key: str, problems: list[Problem]) -> Any:
    if not isinstance(value, dict):
        problems.append(Problem(f"expected keys and values, found {value!r}.", key=key))
        return None
    hints = typing.get_type_hints(kind)
    before = len(problems)
    for name in value:
        if name not in hints:
            fix = did_you_mean(name, hints)
            problems.append(Problem(f"unknown key '{name}'.", key=key or "file", fix=fix))
    problems += [Problem(f"key '{name}' is missing.", key=key or "file") for name in hints if name not in value]
    read = {
        name: _read(value[name], hint, f"{key}.{name}".lstrip("."), problems)
        for name, hint in hints.items()
        if name in value
    }
    return kind(**read) if len(problems) == before else None
