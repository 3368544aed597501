"""Name -> file, for tasks and prompts: a path the user gave, then ./tasks and ./prompts, then the shipped ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from flamingo_eval.errors import ConfigError, did_you_mean

PACKAGE = Path(__file__).resolve().parents[1]


def shipped(kind: str) -> Path:
    """The folder `tasks` or `prompts` that came with the package: inside the wheel, or beside it in a checkout."""
    inside = PACKAGE / "shipped" / kind
    return inside if inside.is_dir() else PACKAGE.parent / kind


def task_names() -> list[str]:
    """All tasks known by name, the user's own ./tasks included, sorted."""
    folders = (Path("tasks"), shipped("tasks"))
    return sorted({p.stem for folder in folders if folder.is_dir() for p in folder.glob("*.yaml")})


def find_task(name: str) -> Path:
    """The YAML file of a task: a path to a file, or a name. Raises ConfigError with the nearest known name."""
    if name.endswith((".yaml", ".yml")) or "/" in name or "\\" in name:
        path = Path(name)
        if not path.is_file():
            raise ConfigError(f"task file {name}: there is no such file.")
        return path
    for folder in (Path("tasks"), shipped("tasks")):
        if (folder / f"{name}.yaml").is_file():
            return folder / f"{name}.yaml"
    known = task_names()
    raise ConfigError(f"unknown task '{name}'. {did_you_mean(name, known)}".rstrip(), fix=f"Known: {', '.join(known)}.")


def protocol_names() -> list[str]:
    """All prompt protocols known by name, sorted."""
    folders = (Path("prompts"), shipped("prompts"))
    return sorted({p.parent.name for folder in folders if folder.is_dir() for p in folder.glob("*/protocol.yaml")})


def find_protocol(name: str) -> Path:
    """The folder of a protocol: a path to a folder with a protocol.yaml, or a name."""
    for folder in (Path(name), Path("prompts") / name, shipped("prompts") / name):
        if (folder / "protocol.yaml").is_file():
            return folder
    known = protocol_names()
    hint = did_you_mean(name, known)
    raise ConfigError(f"unknown protocol '{name}'. {hint}".rstrip(), fix=f"Known: {', '.join(known)}.")


class NoPromptError(ConfigError):
    """A protocol does not cover a task."""


def find_prompt(protocol: Path, names: Sequence[str]) -> Path:
    """The first of the prompt files `names` that a protocol's folder has."""
    for name in names:
        if (protocol / f"{name}.yaml").is_file():
            return protocol / f"{name}.yaml"
    known = sorted(p.stem for p in protocol.glob("*.yaml") if p.stem != "protocol")
    wanted = " or ".join(f"'{n}'" for n in names)
    raise NoPromptError(
        f"protocol '{protocol.name}' has no prompt {wanted}. {did_you_mean(names[0], known)}".rstrip(),
        fix=f"It has: {', '.join(known)}. Choose another --protocol, or write {protocol.name}/{names[0]}.yaml.",
    )
