"""A tree of plain values (JSON, or YAML through config/load.py) -> a frozen dataclass, all problems at once.

The dataclass is the schema: field types say what is expected, defaults what may be missing. Every problem has its key,
its line (if the format has lines), the value and the nearest known word. Nothing is converted silently, and no file
causes a traceback: numbers too large for a float, NaN, lists instead of a name and deep nesting are ordinary problems.

A field added later has `metadata={"absent": value}`: its value for config files written before it existed.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
import types
import typing
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar, Union, cast, get_args, get_origin

from flamingo_eval.errors import FlamingoEvalError, Problem, did_you_mean, problems_in

Kind = TypeVar("Kind")
Names = Mapping[str, tuple[str, Collection[str]]]  # key -> a word for what it names, and the known names
LARGEST = 2**63  # larger integers are not counts
SHOWN = 60  # characters of a value in a message
KINDS: Mapping[Any, str] = {str: "a text", int: "an integer", float: "a number", bool: "true or false"}
UNFIT = object()  # returned for a scalar of the wrong type


class Tree(Protocol):
    """The interface to a parsed value with its place; one class per format."""

    @property
    def line(self) -> int | None: ...

    @property
    def is_null(self) -> bool: ...

    def items(self) -> Sequence[Tree] | None:
        """The items of a list, None for anything else."""

    def pairs(self) -> Sequence[tuple[str | None, Tree, Tree]] | None:
        """Key, key node and value of each entry of a mapping, or None. A key that is not a text is None."""

    def scalar(self, kind: type) -> object:
        """The value as `kind`, or UNFIT."""

    def plain(self) -> object:
        """The value as it is, for fields of any type."""

    def shown(self) -> str:
        """The value in a message."""

    def same(self, other: Tree) -> bool:
        """Whether both are the same node (an alias to itself would never end)."""


@dataclass(frozen=True, slots=True)
class JsonTree:
    """A parsed JSON value, without line numbers."""

    value: object

    @property
    def line(self) -> int | None:
        return None

    @property
    def is_null(self) -> bool:
        return self.value is None

    def items(self) -> Sequence[Tree] | None:
        return [JsonTree(v) for v in self.value] if isinstance(self.value, list) else None

    def pairs(self) -> Sequence[tuple[str | None, Tree, Tree]] | None:
        if not isinstance(self.value, dict):
            return None
        return [(k if isinstance(k, str) else None, self, JsonTree(v)) for k, v in self.value.items()]

    def scalar(self, kind: type) -> object:
        return self.value if type(self.value) is kind or (kind is float and type(self.value) is int) else UNFIT

    def plain(self) -> object:
        return self.value

    def shown(self) -> str:
        if isinstance(self.value, (list, dict)):
            return "a list" if isinstance(self.value, list) else "keys and values"
        text = f"'{self.value}'" if isinstance(self.value, str) else json.dumps(self.value, default=repr)
        return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."

    def same(self, other: Tree) -> bool:
        return False  # JSON has no aliases


@dataclass(frozen=True, slots=True)
class Rules:
    """Options for reading a tree."""

    names: Names = dataclasses.field(default_factory=dict)  # known texts of a key: `metrics[].name`
    shorthand: bool = (
        False  # short forms in YAML: a name for a list of one, a name for an object that needs only a name
    )
    complete: bool = False  # every field is required, except those with `absent`


def read(tree: Tree, kind: type[Kind], file: Path, error: type[FlamingoEvalError], rules: Rules | None = None) -> Kind:
    """The dataclass `kind` from a tree. Raises `error` with every problem, under the file's name."""
    value, problems = try_read(tree, kind, file, rules)
    if problems:
        raise problems_in(file, problems, error)
    return cast(Kind, value)


def try_read(
    tree: Tree,
    kind: type[Kind],
    file: Path | None = None,
    rules: Rules | None = None,
    key: str = "",
) -> tuple[Kind | None, list[Problem]]:
    """The dataclass `kind`; or None, with the problems."""
    reader = _Reader(file, rules or Rules())
    try:
        value = reader.read(tree, kind, key)
    except RecursionError:
        reader.problem(tree, key, "nested too deeply.")
    return (None, reader.problems) if reader.problems else (cast(Kind, value), [])


class _Reader:
    """Reads trees by type and collects problems; returns None for a value with a problem."""

    def __init__(self, file: Path | None, rules: Rules) -> None:
        self.file, self.rules = file, rules
        self.problems: list[Problem] = []
        self._open: list[Tree] = []

    def problem(self, tree: Tree, key: str, what: str, fix: str = "") -> None:
        self.problems.append(Problem(what, self.file, tree.line, key or "file", fix))

    def expected(self, tree: Tree, key: str, what: str, fix: str = "") -> None:
        self.problem(tree, key, f"expected {what}, got {tree.shown()}.", fix)

    def read(self, tree: Tree, kind: Any, key: str) -> Any:
        if any(tree.same(outer) for outer in self._open):
            self.problem(tree, key, "refers to itself.")
            return None
        self._open.append(tree)
        try:
            return self._read(tree, kind, key)
        finally:
            self._open.pop()

    def _read(self, tree: Tree, kind: Any, key: str) -> Any:
        origin = get_origin(kind)
        if kind is Any or kind is object:
            return self._plain(tree, tree.plain(), key)
        if origin in (Union, types.UnionType):
            return self._union(tree, get_args(kind), key)
        if origin is Literal:
            return self._choice(tree, get_args(kind), key)
        if origin is tuple:
            return self._tuple(tree, get_args(kind), key)
        if origin in (dict, Mapping):
            return {n: self.read(v, get_args(kind)[1], _below(key, n)) for n, _, v in self._pairs(tree, key)}
        if dataclasses.is_dataclass(kind):
            return self._dataclass(tree, cast(type, kind), key)
        return self._scalar(tree, kind, key)

    def _plain(self, tree: Tree, value: object, key: str) -> object:
        """Any plain value; NaN and infinity are problems."""
        if isinstance(value, float) and not math.isfinite(value):
            self.problem(tree, key, f"expected a finite number, got {value}.")
        if isinstance(value, dict):
            return {k: self._plain(tree, v, _below(key, str(k))) for k, v in value.items()}
        if isinstance(value, list):
            return [self._plain(tree, v, f"{key}[{i}]") for i, v in enumerate(value)]
        return value

    def _union(self, tree: Tree, kinds: tuple[Any, ...], key: str) -> Any:
        if tree.is_null and types.NoneType in kinds:
            return None
        kinds = tuple(k for k in kinds if k is not types.NoneType)
        if len(kinds) == 1:
            return self._read(tree, kinds[0], key)
        by_name = {_kind_name(k): k for k in kinds}  # dataclasses distinguished by their field `kind`
        pairs = tree.pairs()
        if pairs is None:
            self.expected(tree, key, "keys and values")
            return None
        name = next((v for n, _, v in pairs if n == "kind"), None)
        if name is None:
            default = _absent_kind(kinds)
            if default is None:
                self.problem(tree, key, "key 'kind' is missing.", f"One of: {', '.join(by_name)}.")
            return None if default is None else self._read(tree, default, key)
        kind_name = self._choice(name, tuple(by_name), _below(key, "kind"))
        return None if kind_name is None else self._read(tree, by_name[kind_name], key)

    def _choice(self, tree: Tree, choices: tuple[Any, ...], key: str) -> Any:
        for choice in choices:
            value = tree.scalar(type(choice))
            if value is not UNFIT and value == choice:
                return choice
        word = tree.scalar(str)
        hint_text = did_you_mean(word, map(str, choices)) if isinstance(word, str) else ""
        self.expected(tree, key, f"one of {', '.join(map(str, choices))}", hint_text)
        return None

    def _tuple(self, tree: Tree, kinds: tuple[Any, ...], key: str) -> tuple[Any, ...] | None:
        items = tree.items()
        if items is None and self.rules.shorthand and kinds[0] is str and tree.pairs() is None:
            value = self._scalar(tree, str, key)  # one name instead of a list of one
            return None if value is None else (value,)
        if items is None:
            self.expected(tree, key, "a list")
            return None
        if kinds[-1] is not Ellipsis and len(items) != len(kinds):
            self.problem(tree, key, f"expected a list of {len(kinds)}, got {len(items)} items.")
            return None
        kind_of = kinds if kinds[-1] is not Ellipsis else kinds[:1] * len(items)
        return tuple(self.read(v, k, f"{key}[{i}]") for i, (v, k) in enumerate(zip(items, kind_of, strict=True)))

    def _pairs(self, tree: Tree, key: str) -> list[tuple[str, Tree, Tree]]:
        """Keys, their nodes and values; invalid and duplicate keys are problems and left out."""
        pairs = tree.pairs()
        if pairs is None:
            self.expected(tree, key, "keys and values")
            return []
        values: dict[str, tuple[str, Tree, Tree]] = {}
        for name, node, value in pairs:
            if name is None:
                self.problem(node, key, "a key must be one word.")
            elif name in values:
                self.problem(node, key, f"duplicate key '{name}'.")
            else:
                values[name] = name, node, value
        return list(values.values())

    def _dataclass(self, tree: Tree, kind: type, key: str) -> Any:
        fields = {f.name: f for f in dataclasses.fields(kind) if f.init}
        plain_word = tree.pairs() is None and tree.items() is None and not tree.is_null
        if self.rules.shorthand and plain_word and [n for n, f in fields.items() if _required(f)] == ["name"]:
            name = self._scalar(tree, str, _below(key, "name"))  # `metrics: [cider]` for `metrics: [{name: cider}]`
            return None if name is None else kind(name=name)
        if tree.pairs() is None:
            self.expected(tree, key, "keys and values")
            return None
        hints, n_problems = field_types(kind), len(self.problems)
        values: dict[str, Any] = {}
        for name, node, value in self._pairs(tree, key):
            if name in fields:
                values[name] = self.read(value, hints[name], _below(key, name))
            else:
                fix = did_you_mean(name, fields) or f"Keys here: {', '.join(sorted(fields))}."
                self.problem(node, key, f"unknown key '{name}'.", fix)
        for name, field in fields.items():
            if name in values:
                continue
            if "absent" in field.metadata:
                values[name] = field.metadata["absent"]
            elif _required(field) or self.rules.complete:
                self.problem(tree, key, f"key '{name}' is missing.")
        if len(self.problems) > n_problems:
            return None
        try:
            return kind(**values)
        except ValueError as error:
            self.problem(tree, key, f"{error}.")
            return None

    def _scalar(self, tree: Tree, kind: Any, key: str) -> Any:
        value = tree.scalar(kind)
        if value is UNFIT:
            self.expected(tree, key, KINDS[kind])
            return None
        if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= LARGEST:
            self.problem(tree, key, f"expected {KINDS[kind]} below 2^63, got one of {len(str(value))} digits.")
            return None
        if kind is float:
            value = float(cast(float, value))
            if not math.isfinite(value):
                self.expected(tree, key, "a finite number")
                return None
        if isinstance(value, str) and not value.isprintable() and _half_surrogate(value):
            self.problem(tree, key, "contains half a surrogate pair, which is not a character.")
            return None
        what, known_names = self.rules.names.get(re.sub(r"\[\d+\]", "[]", key), ("", ()))
        if known_names and value not in known_names:
            fix = did_you_mean(str(value), known_names) or f"Known: {', '.join(known_names)}."
            self.problem(tree, key, f"unknown {what} '{value}'.", fix)
        return value


def _below(key: str, name: str) -> str:
    return f"{key}.{name}" if key else name


def _required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _half_surrogate(text: str) -> bool:
    return any("\ud800" <= c <= "\udfff" for c in text)


def _kind_name(kind: type) -> str:
    return str(next(f.default for f in dataclasses.fields(kind) if f.name == "kind"))


def _absent_kind(kinds: Sequence[type]) -> type | None:
    """The dataclass of an object without `kind`: the one whose field declares it as default."""
    return next((k for k in kinds for f in dataclasses.fields(k) if f.name == "kind" and "absent" in f.metadata), None)


@cache
def field_types(kind: type) -> dict[str, Any]:
    """The types of a dataclass's fields, by name."""
    return typing.get_type_hints(kind)
