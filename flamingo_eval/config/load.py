"""YAML -> specs, with file, line and key in every problem. The only module that reads YAML.

A file is parsed into nodes (which remember their lines), then each node is read by the type of the spec's field. All
problems of a file are collected and raised at once.
"""

from __future__ import annotations

import dataclasses
import re
import types
import typing
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

import yaml

from flamingo_eval.config.specs import PromptSpec, ProtocolSpec
from flamingo_eval.errors import ConfigError, Problem, did_you_mean, problems_in

Spec = TypeVar("Spec")
MAX_YAML_BYTES = 4 * 2**20  # a task file is some kilobytes; anything near this is not one


def load_prompt(path: Path) -> PromptSpec:
    """Read one prompt file; ConfigError lists every problem in it."""
    return load_spec(path, PromptSpec)


def load_protocol(path: Path) -> ProtocolSpec:
    """Read the protocol.yaml of a prompts folder."""
    return load_spec(path, ProtocolSpec)


Names = Mapping[str, tuple[str, Collection[str]]]  # key -> what it names, and the known names


def load_spec(path: Path, kind: type[Spec], names: Names | None = None, bases: Path | None = None) -> Spec:
    """Read a YAML file into the dataclass `kind`: unknown keys, wrong types and bad values are all reported.

    `names` lists what the text under a key may be (list indices left out: `metrics[].name`). `bases` is a folder of
    files that this one may begin from: with `like: NAME` it says only what differs from NAME.yaml.
    """
    node = parse_yaml(path)
    if bases is not None:
        node = _begun_from_base(node, path, bases)
    reader = _Reader(path, names or {})
    spec = reader.read(node, kind, "")
    if reader.problems:
        raise problems_in(path, reader.problems, ConfigError)
    return typing.cast(Spec, spec)


def parse_yaml(path: Path) -> yaml.Node:
    """The root node of a YAML file. Raises ConfigError with line and column for what is no YAML, or empty."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    if len(data) > MAX_YAML_BYTES:
        raise ConfigError(f"{path}: {len(data)} bytes are too many for a settings file (limit {MAX_YAML_BYTES}).")
    try:
        node = yaml.compose(data.decode("utf-8"), Loader=yaml.SafeLoader)
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text (byte {error.start}).") from error
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        what = getattr(error, "problem", None) or str(error) or "nested too deeply"
        raise ConfigError(f"{path}: {where}not YAML: {what}") from error
    if node is None:
        raise ConfigError(f"{path}: the file is empty.")
    return node


def _begun_from_base(node: yaml.Node, path: Path, bases: Path) -> yaml.Node:
    """The node, laid over the file that its key `like` names."""
    if not isinstance(node, yaml.MappingNode):
        return node
    like = [(k, v) for k, v in node.value if k.value == "like"]
    if not like:
        return node
    line, name = like[0][0].start_mark.line + 1, like[0][1].value  # a text, or nodes
    known = sorted(p.stem for p in bases.glob("*.yaml"))
    if len(like) > 1 or name not in known:
        what = "stands here twice" if len(like) > 1 else f"{_shown(like[0][1])} is not known"
        raise problems_in(path, [Problem(f"{what}.", path, line, "like", f"One of: {', '.join(known)}.")], ConfigError)
    node.value = [pair for pair in node.value if pair not in like]
    base = bases / f"{name}.yaml"
    return _laid_over(_begun_from_base(parse_yaml(base), base, bases), node)


def _laid_over(base: yaml.Node, node: yaml.Node) -> yaml.Node:
    """All of `node`, and what the mappings of `base` have beside it."""
    if not (isinstance(base, yaml.MappingNode) and isinstance(node, yaml.MappingNode)):
        return node
    below = {key.value: (key, value) for key, value in base.value}
    above = []
    for key, value in node.value:
        _, under = below.pop(str(key.value), (None, None))
        above.append((key, value if under is None else _laid_over(under, value)))
    node.value = [*above, *below.values()]
    return node


class _Reader:
    """Reads nodes by type and collects problems; a value with a problem comes back as None."""

    def __init__(self, path: Path, names: Names) -> None:
        self.path, self.names = path, names
        self.problems: list[Problem] = []
        self._open: list[int] = []  # ids of the nodes being read: an alias to one of them would never end

    def problem(self, node: yaml.Node, key: str, what: str, fix: str = "") -> None:
        self.problems.append(Problem(what, self.path, node.start_mark.line + 1, key, fix))

    def read(self, node: yaml.Node, kind: Any, key: str) -> Any:
        if id(node) in self._open:
            self.problem(node, key, "refers to itself")
            return None
        self._open.append(id(node))
        try:
            return self._read(node, kind, key)
        finally:
            self._open.pop()

    def _read(self, node: yaml.Node, kind: Any, key: str) -> Any:
        origin = get_origin(kind)
        if origin in (Union, types.UnionType):
            return self._optional(node, kind, key)
        if origin is Literal:
            return self._choice(node, get_args(kind), key)
        if origin is tuple:
            return self._sequence(node, get_args(kind)[0], key)
        if origin in (dict, Mapping):
            return self._mapping(node, get_args(kind)[1], key)
        if dataclasses.is_dataclass(kind):
            return self._spec(node, typing.cast(type, kind), key)
        return self._scalar(node, kind, key)

    def _optional(self, node: yaml.Node, kind: Any, key: str) -> Any:
        inner = [k for k in get_args(kind) if k is not type(None)]
        if isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:null":
            return None
        return self._read(node, inner[0], key)

    def _choice(self, node: yaml.Node, choices: tuple[Any, ...], key: str) -> Any:
        value = self._scalar(node, str, key)
        if value is not None and value not in choices:
            known = ", ".join(map(str, choices))
            fix = did_you_mean(value, map(str, choices)) or f"One of: {known}."
            self.problem(node, key, f"'{value}' is not known.", fix)
            return None
        return value

    def _sequence(self, node: yaml.Node, item: Any, key: str) -> tuple[Any, ...] | None:
        if isinstance(node, yaml.ScalarNode) and item is str:  # one name instead of a list of one
            value = self._scalar(node, str, key)
            return None if value is None else (value,)
        if not isinstance(node, yaml.SequenceNode):
            self.problem(node, key, f"expected a list, found {_shown(node)}.")
            return None
        return tuple(self.read(child, item, f"{key}[{i}]") for i, child in enumerate(node.value))

    def _pairs(self, node: yaml.Node, key: str) -> list[tuple[str, yaml.Node, yaml.Node]]:
        if not isinstance(node, yaml.MappingNode):
            self.problem(node, key, f"expected keys and values, found {_shown(node)}.")
            return []
        pairs: list[tuple[str, yaml.Node, yaml.Node]] = []
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                self.problem(key_node, key, "a key must be one word.")
            elif any(name == key_node.value for name, _, _ in pairs):
                self.problem(key_node, key or "file", f"key '{key_node.value}' stands here twice.")
            else:
                pairs.append((key_node.value, key_node, value_node))
        return pairs

    def _mapping(self, node: yaml.Node, value: Any, key: str) -> Any:
        pairs = self._pairs(node, key)
        return {n: self.read(v, value, f"{key}.{n}".lstrip(".")) for n, _, v in pairs}

    def _spec(self, node: yaml.Node, kind: type, key: str) -> Any:
        if isinstance(node, yaml.ScalarNode) and _only_name_required(kind):
            name = self._scalar(node, str, f"{key}.name")  # `metrics: [cider]` for `metrics: [{name: cider}]`
            return None if name is None else kind(name=name)
        hints = typing.get_type_hints(kind)
        fields = {f.name: f for f in dataclasses.fields(kind)}
        before = len(self.problems)
        values: dict[str, Any] = {}
        for name, key_node, value_node in self._pairs(node, key):
            if name not in fields:
                place = key or "file"
                fix = did_you_mean(name, fields) or f"Keys here: {', '.join(sorted(fields))}."
                self.problem(key_node, place, f"unknown key '{name}'.", fix)
            else:
                values[name] = self.read(value_node, hints[name], f"{key}.{name}".lstrip("."))
        if not isinstance(node, yaml.MappingNode):
            return None
        for field in fields.values():
            if field.name not in values and _required(field):
                self.problem(node, key or "file", f"key '{field.name}' is missing.")
        if len(self.problems) > before:
            return None
        try:
            return kind(**values)
        except ValueError as error:
            self.problem(node, key or "file", f"{error}.")
            return None

    def _scalar(self, node: yaml.Node, kind: type, key: str) -> Any:
        value = self._typed(node, kind, key)
        what, known = self.names.get(re.sub(r"\[\d+\]", "[]", key), ("", ()))
        if value is not None and known and value not in known:
            fix = did_you_mean(value, known) or f"Known: {', '.join(known)}."
            self.problem(node, key, f"unknown {what} '{value}'.", fix)
        return value

    def _typed(self, node: yaml.Node, kind: type, key: str) -> Any:
        if not isinstance(node, yaml.ScalarNode):
            self.problem(node, key, f"expected {_KINDS[kind]}, found {_shown(node)}.")
            return None
        try:
            value = yaml.SafeLoader("").construct_object(node)
        except (yaml.YAMLError, ValueError):
            value = node.value
        if kind is str and isinstance(value, str):
            return value
        if kind is str and node.tag != "tag:yaml.org,2002:null":
            # `no` and `1` are words where a word is wanted: YAML 1.1 would turn them into False and 1
            return node.value
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            return float(value)
        if type(value) is kind:
            return value
        self.problem(node, key, f"expected {_KINDS[kind]}, found {_shown(node)}.")
        return None


_KINDS: dict[type, str] = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}


def _required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _only_name_required(kind: type) -> bool:
    return [f.name for f in dataclasses.fields(kind) if _required(f)] == ["name"]


def _shown(node: yaml.Node) -> str:
    if isinstance(node, yaml.ScalarNode):
        return f"'{node.value}'" if node.value else "nothing"
    return "a list" if isinstance(node, yaml.SequenceNode) else "keys and values"
