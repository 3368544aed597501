"""Name -> file, for tasks and prompts: a path the user gave, then ./tasks and ./prompts, then the shipped ones."""

from __future__ import annotations

from pathlib import Path

from flamingo_eval.errors import ConfigError, did_you_mean

PACKAGE = Path(__file__).resolve().parents[1]
PROTOCOL_FILE = "protocol.yaml"
MISSING_PROTOCOL = (
    "Create it; the line `extends: flamingo` is enough, and the folder then needs only the prompt files that "
    "differ (docs/own-prompts.md)."
)


def shipped(kind: str) -> Path:
    """The folder `tasks` or `prompts` of the package: inside the wheel, or next to the package in a checkout."""
    in_package = PACKAGE / "shipped" / kind
    return in_package if in_package.is_dir() else PACKAGE.parent / kind


def task_names() -> list[str]:
    """All tasks known by name, including the user's own ./tasks, sorted."""
    folders = (Path("tasks"), shipped("tasks"))
    return sorted({p.stem for folder in folders if folder.is_dir() for p in folder.glob("*.yaml")})


def is_task_file(name: str) -> bool:
    """Whether a task is given as a path to its file."""
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
    names = task_names()
    raise ConfigError(f"unknown task '{name}'. {did_you_mean(name, names)}".rstrip(), fix=f"Known: {', '.join(names)}.")


def protocol_names() -> list[str]:
    """All prompt protocols known by name, sorted."""
    folders = (Path("prompts"), shipped("prompts"))
    return sorted({p.parent.name for folder in folders if folder.is_dir() for p in folder.glob(f"*/{PROTOCOL_FILE}")})


def find_protocol(name: str, beside: Path | None = None) -> Path:
    """The folder of a protocol: a path to a folder with a protocol.yaml, or a name.

    `beside`: the folder that extends it; paths are relative to it, and it does not match itself. Raises ConfigError.
    """
    protocol_folder = Path(name) if beside is None else beside / name
    by_name = (Path("prompts") / name, shipped("prompts") / name)
    is_path = "/" in name or "\\" in name or name in (".", "..")
    if beside is not None and not is_path:
        candidates = tuple(folder for folder in by_name if folder.resolve() != beside.resolve())
    else:
        candidates = (protocol_folder,) if is_path else (protocol_folder, *by_name)
    for folder in candidates:
        if (folder / PROTOCOL_FILE).is_file():
            return folder
    if protocol_folder.is_file():
        raise ConfigError(
            f"protocol {protocol_folder}: expected a folder, got a file.",
            fix=f"Give its folder: {protocol_folder.parent}.",
        )
    if protocol_folder.is_dir():
        raise ConfigError(f"protocol folder {protocol_folder}: {PROTOCOL_FILE} is missing.", fix=MISSING_PROTOCOL)
    if is_path:
        raise ConfigError(f"protocol folder {protocol_folder}: there is no such folder.")
    names = protocol_names()
    hint = did_you_mean(name, names)
    raise ConfigError(f"unknown protocol '{name}'. {hint}".rstrip(), fix=f"Known: {', '.join(names)}.")
