"""Tests and benchmarks name no file outside the repository: whoever has the checkout has all that they read."""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
FILES = sorted(p for folder in ("tests", "benchmarks") for p in (ROOT / folder).rglob("*.py"))
SYSTEM = ("/bin/", "/dev/", "/etc/", "/proc/")  # the shell, full disks, hostile names, memory
PATH_IN_TEXT = re.compile(r"(?<![\w./-])(?:/|(?:\.\./)+)\w[\w./-]*")


def outside(file: Path, source: str) -> Iterator[str]:
    """What a source file names outside the repository: `line: text`."""
    depth = len(file.relative_to(ROOT).parts)
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Constant(value=str(text)):
                for name in PATH_IN_TEXT.findall(text):
                    if _is_outside(name):
                        yield f"{node.lineno}: {name}"
            case ast.Subscript(value=ast.Attribute(attr="parents"), slice=ast.Constant(value=int(n))) if n >= depth:
                yield f"{node.lineno}: parents[{n}]"
            case ast.Attribute(attr="home" | "expanduser"):
                yield f"{node.lineno}: {node.attr}"


def _is_outside(name: str) -> bool:
    """Seen from the repository's root; a name counts where such a file is there, others are made up."""
    path = (ROOT / name).resolve()
    if path.is_relative_to(ROOT) or len(path.parts) < 3 or name.startswith(SYSTEM) or str(path).startswith(SYSTEM):
        return False
    return path.exists()


def test_nothing_outside_the_repository_is_named() -> None:
    assert len(FILES) > 100
    named = [f"{file.relative_to(ROOT)}: {line}" for file in FILES for line in outside(file, file.read_text("utf-8"))]
    assert named == []


def test_what_leaves_the_repository_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "data.json").write_text("{}")
    beside = os.path.relpath(tmp_path / "data.json", ROOT)
    source = "\n".join(
        (
            f"Path({beside!r}).read_text()",
            f"open({str(tmp_path / 'data.json')!r})",
            f"run('cat {beside}')",
            "Path(__file__).parents[2] / 'data'",
            "Path(__file__).parents[3] / 'data'",
            "Path.home() / 'data'",
            "Path('tests/../tests/data')",
            "Path('/absent/data.json'), '/v1', '10/20', '../absent.yaml'",
        )
    )
    lines = sorted(int(text.partition(":")[0]) for text in outside(ROOT / "tests" / "cli" / "test_x.py", source))
    assert lines == [1, 2, 3, 5, 6]
