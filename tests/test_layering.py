"""Who may import whom, and what costs nothing to import."""

from __future__ import annotations

import ast
import subprocess
import sys

import pytest

from tests.support.import_graph import PACKAGE, cycles, entries, graph

# From the ground up: a package imports only what stands before it, inside functions too.
FLOORS = (
    "errors", "records", "files", "schema", "config", "metrics", "sample", "data", "prompting", "models", "engine",
    "backends", "runs", "report", "api", "evaluation", "smoke", "distributed", "training", "cli",
)  # fmt: skip
LOOSE = 8  # modules directly under the package, at most
LIGHT = (
    "errors", "records", "files", "config.specs", "config.load", "config.names", "config.settings", "prompting.demos",
    "prompting.episodes", "prompting.ablations", "prompting.prompts", "runs.folder", "runs.predictions", "runs.plan",
    "runs.session", "report.tables", "backends.choice", "backends.shape", "models", "sample.fresh.copies",
)  # fmt: skip


def test_every_package_has_its_floor() -> None:
    assert sorted(FLOORS) == entries()
    assert len(list(PACKAGE.glob("*.py"))) <= LOOSE


@pytest.mark.parametrize("name", FLOORS)
def test_a_package_imports_only_what_stands_below_it(name: str) -> None:
    allowed = FLOORS[: FLOORS.index(name)]
    upward = {target: files for target, files in graph()[name].items() if target not in allowed}
    assert not upward, f"{name} imports {upward}"


def test_there_is_no_import_cycle() -> None:
    assert cycles(graph()) == []


def test_a_cycle_would_be_found() -> None:
    assert cycles({"a": {"b": ["a.py"]}, "b": {"c": ["b.py"]}, "c": {"a": ["c.py"]}, "d": {"a": ["d.py"]}}) == [
        ["a", "b", "c"]
    ]


def test_light_modules_import_nothing_heavy() -> None:
    probe = (
        "import sys\n"
        "from importlib import import_module\n"
        "for name in sys.argv[1:]:\n"
        "    import_module(f'flamingo_eval.{name}')\n"
        "    heavy = {'torch', 'pandas', 'datasets', 'transformers', 'av', 'PIL', 'tokenizers'} & set(sys.modules)\n"
        "    if heavy: sys.exit(f'{name} imports {heavy}')\n"
    )
    done = subprocess.run([sys.executable, "-c", probe, *LIGHT], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_nothing_unsafe_is_called() -> None:
    """yaml.load, pickle and remote code have no place here; torch.load stands in `convert` alone, weights only."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            called = ast.unparse(node.func)
            keywords = {k.arg: ast.unparse(k.value) for k in node.keywords}
            assert called not in ("yaml.load", "pickle.load", "pickle.loads", "eval", "exec"), path
            assert keywords.get("trust_remote_code", "False") == "False", path
            if called == "torch.load":
                assert keywords.get("weights_only") == "True", path
                assert "convert" in path.parts or "training" in path.parts, path
