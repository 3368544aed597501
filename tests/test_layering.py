"""Who may import whom, and what costs nothing to import."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "flamingo_eval"
# From the bottom up (design section 3): a module imports at its top only what stands before it in this list.
ORDER = (
    "errors", "specs", "records", "config", "find", "settings", "stored", "media", "datasets", "metrics", "demos",
    "episodes", "ablations", "prompts", "answering", "models", "engine", "provenance", "results", "runner",
)  # fmt: skip
LIGHT = (
    "errors", "specs", "records", "config", "find", "settings", "demos", "episodes", "ablations", "prompts", "results",
    "tables", "predictions",
)  # fmt: skip


def imported_at_top(path: Path) -> set[str]:
    """Our own modules that a file imports when it is imported."""
    found: set[str] = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("flamingo_eval"):
            inner = node.module.split(".")[1:]
            found.update([inner[0]] if inner else [a.name for a in node.names])
    return found


@pytest.mark.parametrize("name", ORDER)
def test_a_module_imports_only_what_stands_above_it(name: str) -> None:
    files = sorted((PACKAGE / name).rglob("*.py")) if (PACKAGE / name).is_dir() else [PACKAGE / f"{name}.py"]
    allowed = set(ORDER[: ORDER.index(name) + 1])
    for path in files:
        above = {m for m in imported_at_top(path) if m in ORDER} - allowed
        assert not above, f"{path.relative_to(PACKAGE)} imports {above}"


@pytest.mark.parametrize("name", LIGHT)
def test_light_modules_import_nothing_heavy(name: str) -> None:
    probe = (
        f"import sys, flamingo_eval.{name}\n"
        "heavy = {'torch', 'pandas', 'datasets', 'transformers', 'av'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_nothing_unsafe_is_called() -> None:
    """yaml.load, pickle and remote code have no place here; torch.load stands in `convert` alone, weights only."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            called = ast.unparse(node.func)
            given = {k.arg: ast.unparse(k.value) for k in node.keywords}
            assert called not in ("yaml.load", "pickle.load", "pickle.loads", "eval", "exec"), path
            assert given.get("trust_remote_code", "False") == "False", path
            if called == "torch.load":
                assert given.get("weights_only") == "True", path
                assert "convert" in path.parts or "training" in path.parts, path
