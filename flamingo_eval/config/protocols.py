"""A folder of prompts -> its ProtocolSpec and its prompt files. A folder may extend another one.

`extends: flamingo` in protocol.yaml gives the other folder: a protocol by name, or a path relative to this folder. Keys
and prompt files that are missing here are read from there. The name of the folder is the protocol's name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import yaml

from flamingo_eval.config.load import YamlTree, laid_over, parse_yaml, with_default
from flamingo_eval.config.names import PROTOCOL_FILE, find_protocol
from flamingo_eval.config.specs import ProtocolSpec
from flamingo_eval.errors import ConfigError, Problem, did_you_mean, problems_in
from flamingo_eval.files import printable
from flamingo_eval.schema import Rules, read

EXTENDS = "extends"


class NoPromptError(ConfigError):
    """A protocol does not cover a task."""


def load_protocol(path: Path) -> ProtocolSpec:
    """Read a protocol.yaml, merged with the one it extends. Raises ConfigError with every problem in it."""
    node, folder = _without_extends(parse_yaml(path), path), path.parent
    for below in protocol_chain(folder)[1:]:
        base = below / PROTOCOL_FILE
        node = laid_over(_without_extends(parse_yaml(base), base), node)
    name = printable(folder.resolve().name)
    with_default(node, "name", name)
    return replace(read(YamlTree(node), ProtocolSpec, path, ConfigError, Rules(shorthand=True)), name=name)


def protocol_chain(folder: Path) -> tuple[Path, ...]:
    """A protocol's folder, the folder it extends, the folder that one extends, and so on. Raises ConfigError."""
    chain = [folder]
    while (base := _base_of(chain[-1])) is not None:
        if any(base.resolve() == earlier.resolve() for earlier in chain):
            names = " extends ".join(str(f) for f in (*chain, base))
            raise ConfigError(f"{chain[-1] / PROTOCOL_FILE}: {names}: a protocol cannot extend itself.")
        chain.append(base)
    return tuple(chain)


def find_prompt(protocol: Path, names: Sequence[str]) -> Path:
    """The first of the prompt files `names` in a protocol's folder or the folders it extends.

    Raises NoPromptError if there is none.
    """
    chain = protocol_chain(protocol)
    for name in names:
        for folder in chain:
            if (folder / f"{name}.yaml").is_file():
                return folder / f"{name}.yaml"
    prompt_names = sorted({stem for folder in chain for stem in prompt_files(folder)})
    expected = " or ".join(f"'{n}'" for n in names)
    raise NoPromptError(
        f"protocol '{protocol.name}' has no prompt {expected}. {did_you_mean(names[0], prompt_names)}".rstrip(),
        fix=f"It has: {', '.join(prompt_names) or 'none'}. Choose another --protocol, or write "
        f"{protocol.name}/{names[0]}.yaml (docs/own-prompts.md).",
    )


def prompt_files(folder: Path) -> dict[str, Path]:
    """The prompt files in a folder, by name without `.yaml`."""
    return {path.stem: path for path in sorted(folder.glob("*.yaml")) if path.name != PROTOCOL_FILE}


def _base_of(folder: Path) -> Path | None:
    """The folder that a protocol's folder extends."""
    path = folder / PROTOCOL_FILE
    pair = _extends(parse_yaml(path))
    if pair is None:
        return None
    key, value = pair
    line = key.start_mark.line + 1
    if not isinstance(value, yaml.ScalarNode) or not value.value:
        what = f"expected the name of a protocol, got {YamlTree(value).shown()}."
        raise problems_in(path, [Problem(what, path, line, EXTENDS)], ConfigError)
    try:
        return find_protocol(value.value, beside=folder)
    except ConfigError as error:
        raise ConfigError(f"{path}: line {line}, {EXTENDS}: {error}") from error


def _extends(node: yaml.Node) -> tuple[yaml.Node, yaml.Node] | None:
    pairs = node.value if isinstance(node, yaml.MappingNode) else []
    return next(((k, v) for k, v in pairs if k.value == EXTENDS), None)


def _without_extends(node: yaml.Node, path: Path) -> yaml.Node:
    """The node without its key `extends`. Raises ConfigError for a duplicate key."""
    if isinstance(node, yaml.MappingNode):
        keys = [k for k, _ in node.value if k.value == EXTENDS]
        if len(keys) > 1:
            problem = Problem(f"duplicate key '{EXTENDS}'.", path, keys[1].start_mark.line + 1, EXTENDS)
            raise problems_in(path, [problem], ConfigError)
        node.value = [(k, v) for k, v in node.value if k.value != EXTENDS]
    return node
