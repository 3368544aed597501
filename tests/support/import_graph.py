"""The imports between packages and top-level modules of flamingo_eval, and every import cycle.

python -m tests.support.import_graph prints both. Imports inside functions count; those only for type checkers do not.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "flamingo_eval"


def entries() -> list[str]:
    """Packages and loose modules directly under flamingo_eval, sorted; `__init__` and `__main__` are left out."""
    names = [p.stem for p in PACKAGE.glob("*.py") if not p.stem.startswith("__")]
    names += [p.name for p in PACKAGE.iterdir() if (p / "__init__.py").is_file()]
    return sorted(names)


def imported(path: Path) -> Iterator[str]:
    """The modules of flamingo_eval that a file imports, at its top or inside functions, as dotted names."""
    for node in _without_type_checking(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == PACKAGE.name:
            if node.module == PACKAGE.name:
                yield from (f"{node.module}.{alias.name}" for alias in node.names)
            else:
                yield node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == PACKAGE.name)


def _without_type_checking(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            continue
        yield child
        yield from _without_type_checking(child)


@cache
def graph() -> dict[str, dict[str, list[str]]]:
    """entry -> entries it imports -> the files that do."""
    names = set(entries())
    arrows: dict[str, dict[str, list[str]]] = {name: {} for name in sorted(names)}
    for path in sorted(PACKAGE.rglob("*.py")):
        relative = path.relative_to(PACKAGE)
        source = relative.parts[0].removesuffix(".py")
        if source not in names:
            continue
        for module in imported(path):
            parts = module.split(".")
            if len(parts) > 1 and parts[1] in names and parts[1] != source:
                files = arrows[source].setdefault(parts[1], [])
                if str(relative) not in files:
                    files.append(str(relative))
    return arrows


def cycles(arrows: Mapping[str, Mapping[str, list[str]]]) -> list[list[str]]:
    """The groups of entries that import each other in a circle (strongly connected, of two or more), sorted."""
    reach = {name: _reachable(name, arrows) for name in arrows}
    groups = {tuple(sorted(b for b in arrows if b in reach[a] and a in reach[b])) for a in arrows if a in reach[a]}
    return [list(group) for group in sorted(groups)]


def _reachable(name: str, arrows: Mapping[str, Mapping[str, list[str]]]) -> set[str]:
    visited: set[str] = set()
    pending = list(arrows[name])
    while pending:
        entry = pending.pop()
        if entry not in visited:
            visited.add(entry)
            pending.extend(arrows[entry])
    return visited


if __name__ == "__main__":
    arrows = graph()
    for source, targets in arrows.items():
        print(f"{source}: {', '.join(sorted(targets)) or '-'}")
    groups = cycles(arrows)
    print(f"{len(arrows)} entries, {sum(map(len, arrows.values()))} arrows, {len(groups)} cycles")
    for group in groups:
        print(f"cycle: {', '.join(group)}")
        for source in group:
            for target in group:
                for file in arrows[source].get(target, ()):
                    print(f"  {file} imports {target}")
