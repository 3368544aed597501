"""Name -> file, for tasks and prompts: a path the user gave, then ./tasks and ./prompts, then the shipped ones."""

from __future__ import annotations

from pathlib import Path

from flamingo_eval.errors import ConfigError, did_you_mean

PACKAGE = Path(__file__).resolve().parents[1]
PROTOCOL_FILE = "protocol.yaml"
MISSING_PROTOCOL = (
    "Write it there; the line `extends: flamingo` is enough, and the folder then needs only the prompt files that "
    "differ (docs/own-prompts.md)."
)


def shipped(kind: str) -> Path:
    """The folder `tasks` or `prompts` that came with the package: inside the wheel, or beside it in a checkout."""
    inside = PACKAGE / "shipped" / kind
    return inside if inside.is_dir() else PACKAGE.parent / kind


def task_names() -> list[str]:
    """All tasks known by name, the user's own ./tasks included, sorted."""
    folders = (Path("tasks"), shipped("tasks"))
    return sorted({p.stem for folder in folders if folder.is_dir() for p in folder.glob("*.yaml")})


def is_task_file(name: str) -> bool:
    """Whether a task is named by a path to its file."""
    return name.endswith((".yaml", ".yml")) or "/" in name or "\\" in name


def find_task(name: str) -> Path:
    """The YAML file of a task: a path to a file, or a name. Raises ConfigError with the nearest known name."""
    if is_task_file(name):
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
    return sorted({p.parent.name for folder in folders if folder.is_dir() for p in folder.glob(f"*/{PROTOCOL_FILE}")})


def find_protocol(name: str, beside: Path | None = None) -> Path:
    """The folder of a protocol: a path to a folder with a protocol.yaml, or a name.

    `beside`: the folder that extends it; paths are then relative to it, and it is not found itself. Raises ConfigError.
    """
    given = Path(name) if beside is None else beside / name
    by_name = (Path("prompts") / name, shipped("prompts") / name)
    is_path = "/" in name or "\\" in name or name in (".", "..")
    if beside is not None and not is_path:
        candidates = tuple(folder for folder in by_name if folder.resolve() != beside.resolve())
    else:
        candidates = (given,) if is_path else (given, *by_name)
    for folder in candidates:
        if (folder / PROTOCOL_FILE).is_file():
            return folder
    if given.is_file():
        raise ConfigError(f"protocol {given}: it is a file.", fix=f"Name its folder: {given.parent}.")
    if given.is_dir():
        raise ConfigError(f"protocol folder {given}: {PROTOCOL_FILE} is missing.", fix=MISSING_PROTOCOL)
    if is_path:
        raise ConfigError(f"protocol folder {given}: there is no such folder.")
    known = protocol_names()
    hint = did_you_mean(name, known)
    raise ConfigError(f"unknown protocol '{name}'. {hint}".rstrip(), fix=f"Known: {', '.join(known)}.")
