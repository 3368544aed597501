"""YAML -> specs, with file, line and key in every problem. The only module that reads YAML.

A file is parsed into nodes with line numbers; schema.py reads them by the types of the spec's fields.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import yaml

from flamingo_eval.config.specs import PromptSpec
from flamingo_eval.errors import ConfigError, Problem, problems_in
from flamingo_eval.files import read_text
from flamingo_eval.schema import SHOWN, UNFIT, Names, Rules, Tree, read

Spec = TypeVar("Spec")
MAX_YAML_BYTES = 4 * 2**20  # a task file has a few kilobytes
MAX_BRACKETS = 100  # open at one place; the parser's time grows with their square
STR, NULL = "tag:yaml.org,2002:str", "tag:yaml.org,2002:null"


def load_prompt(path: Path) -> PromptSpec:
    """Read one prompt file; without `name` it is named after the file. Raises ConfigError with every problem in it."""
    node = parse_yaml(path)
    with_default(node, "name", path.stem)
    return read(YamlTree(node), PromptSpec, path, ConfigError, Rules(shorthand=True))


def load_spec(path: Path, kind: type[Spec], names: Names | None = None, bases: Path | None = None) -> Spec:
    """Read a YAML file into the dataclass `kind`: unknown keys, wrong types and bad values are all reported.

    `names` lists the known words of a key (without list indices: `metrics[].name`). `bases` is a folder of files that
    this one may extend: with `like: NAME` it contains only the differences from NAME.yaml.
    """
    node = parse_yaml(path)
    if bases is not None:
        node = _begun_from_base(node, path, bases)
    return read(YamlTree(node), kind, path, ConfigError, Rules(names=names or {}, shorthand=True))


def parse_yaml(path: Path) -> yaml.Node:
    """The root node of a YAML file. Raises ConfigError, with line and column, if it is empty or not YAML."""
    text = read_text(path, ConfigError, MAX_YAML_BYTES)
    _require_shallow(text, path)
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        location = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        problem = getattr(error, "problem", None) or str(error) or "nested too deeply"
        raise ConfigError(f"{path}: {location}not YAML: {problem}") from error
    if node is None:
        raise ConfigError(f"{path}: the file is empty.")
    return node


def _require_shallow(text: str, path: Path) -> None:
    depth = 0
    for bracket in re.finditer(r"[\[\]{}]", text):
        depth = depth + 1 if bracket[0] in "[{" else max(depth - 1, 0)
        if depth > MAX_BRACKETS:
            line = text.count("\n", 0, bracket.start()) + 1
            raise ConfigError(f"{path}: line {line}: not YAML: nested too deeply: {MAX_BRACKETS} open brackets")


def with_default(node: yaml.Node, key: str, value: str) -> None:
    """The mapping with a default text for a missing key."""
    if isinstance(node, yaml.MappingNode) and all(k.value != key for k, _ in node.value):
        texts = (yaml.ScalarNode(STR, text, node.start_mark, node.end_mark) for text in (key, value))
        node.value.append(tuple(texts))


def _begun_from_base(node: yaml.Node, path: Path, bases: Path) -> yaml.Node:
    """The node merged with the file that its key `like` names."""
    if not isinstance(node, yaml.MappingNode):
        return node
    like_pairs = [(k, v) for k, v in node.value if k.value == "like"]
    if not like_pairs:
        return node
    line, name = like_pairs[0][0].start_mark.line + 1, like_pairs[0][1].value  # a text, or nodes
    base_names = sorted(p.stem for p in bases.glob("*.yaml"))
    if len(like_pairs) > 1 or name not in base_names:
        what = (
            "duplicate key 'like'"
            if len(like_pairs) > 1
            else f"expected the name of a base task, got {YamlTree(like_pairs[0][1]).shown()}"
        )
        raise problems_in(
            path, [Problem(f"{what}.", path, line, "like", f"One of: {', '.join(base_names)}.")], ConfigError
        )
    node.value = [pair for pair in node.value if pair not in like_pairs]
    base = bases / f"{name}.yaml"
    return laid_over(_begun_from_base(parse_yaml(base), base, bases), node)


def laid_over(base: yaml.Node, node: yaml.Node) -> yaml.Node:
    """`node` merged into `base`; values of `node` win, mappings are merged recursively."""
    if not (isinstance(base, yaml.MappingNode) and isinstance(node, yaml.MappingNode)):
        return node
    below = {key.value: (key, value) for key, value in base.value}
    above = []
    for key, value in node.value:
        _, base_value = below.pop(str(key.value), (None, None))
        above.append((key, value if base_value is None else laid_over(base_value, value)))
    node.value = [*above, *below.values()]
    return node


@dataclass(frozen=True, slots=True)
class YamlTree:
    """A YAML node, as schema.py reads it."""

    node: yaml.Node

    @property
    def line(self) -> int | None:
        return int(self.node.start_mark.line) + 1

    @property
    def is_null(self) -> bool:
        return isinstance(self.node, yaml.ScalarNode) and self.node.tag == NULL

    def items(self) -> Sequence[Tree] | None:
        return [YamlTree(v) for v in self.node.value] if isinstance(self.node, yaml.SequenceNode) else None

    def pairs(self) -> Sequence[tuple[str | None, Tree, Tree]] | None:
        if not isinstance(self.node, yaml.MappingNode):
            return None
        return [
            (key.value if isinstance(key, yaml.ScalarNode) else None, YamlTree(key), YamlTree(value))
            for key, value in self.node.value
        ]

    def scalar(self, kind: type) -> object:
        """The value as in YAML 1.1, except that for a text `no` and `1` are words, not False and 1."""
        if not isinstance(self.node, yaml.ScalarNode):
            return UNFIT
        if kind is str:
            return UNFIT if self.node.tag == NULL else self.node.value
        value = self.plain()
        return value if type(value) is kind or (kind is float and type(value) is int) else UNFIT

    def plain(self) -> object:
        if not isinstance(self.node, yaml.ScalarNode):
            return None
        try:
            value: object = yaml.SafeLoader("").construct_object(self.node)
        except (yaml.YAMLError, ValueError):
            value = self.node.value
        return value

    def shown(self) -> str:
        if isinstance(self.node, yaml.ScalarNode):
            return f"'{self.node.value[:SHOWN]}'" if self.node.value else "nothing"
        return "a list" if isinstance(self.node, yaml.SequenceNode) else "keys and values"

    def same(self, other: Tree) -> bool:
        return isinstance(other, YamlTree) and self.node is other.node
