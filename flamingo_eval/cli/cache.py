"""flamingo-eval cache: show or clear the cache."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flamingo_eval.cli.options import Json, one_of

KINDS = {
    "sample": "rendered sample worlds",
    "vision": "visual tokens of pictures, by checkpoint",
    "features": "RICES features of pictures and texts, by checkpoint",
}


def cache(
    action: Annotated[str, typer.Argument(metavar="info|clear", autocompletion=one_of("info", "clear"))] = "info",
    kinds: Annotated[
        list[str] | None, typer.Argument(metavar="[sample|vision|features]...", help="Only these; default: all.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show the contents of the cache folder, or clear it. Everything in it is computed again when needed.

    Only flamingo-eval's own subfolders are removed. FLAMINGO_EVAL_CACHE sets the folder.
    """
    from flamingo_eval.cli.console import print_json, print_table, say
    from flamingo_eval.config.settings import cache_dir
    from flamingo_eval.errors import UsageError, did_you_mean

    for word, choices in ((action, ("info", "clear")), *((k, tuple(KINDS)) for k in kinds or ())):
        if word not in choices:
            raise UsageError(f"cache {word}: {did_you_mean(word, choices) or 'unknown.'} One of: {', '.join(choices)}.")
    root = cache_dir()
    selected = list(dict.fromkeys(kinds or KINDS))
    rows = [{"kind": k, "what": KINDS[k], **_size(root / k)} for k in selected]
    if action == "clear":
        for kind in selected:
            _clear(root / kind)
    if as_json:
        print_json({"folder": str(root), "cleared": action == "clear", "kinds": rows})
        return
    print_table(
        ("kind", "what", "files", "MB"), [(r["kind"], r["what"], r["files"], f"{_mb(r['bytes']):.1f}") for r in rows], 2
    )
    total = f"{_mb(sum(int(r['bytes']) for r in rows)):.1f} MB"
    say(f"{root}: {'cleared ' if action == 'clear' else ''}{total}")


def _mb(size: object) -> float:
    return int(str(size)) / 1e6


def _size(folder: Path) -> dict[str, int | str]:
    """Number of files and bytes below a folder; files that another process removes meanwhile are not counted."""
    files = size = 0
    for path in folder.rglob("*"):
        try:
            if path.is_file() and not path.is_symlink():
                size += path.stat().st_size
                files += 1
        except OSError:
            continue
    return {"files": files, "bytes": size}


def _clear(folder: Path) -> None:
    """Rename a folder, then remove it, so that other processes see the complete folder or none."""
    import os
    import shutil
    import tempfile

    from flamingo_eval.errors import RunError

    if not folder.is_dir() or folder.is_symlink():
        return
    try:
        aside = Path(tempfile.mkdtemp(prefix=".cleared-", dir=folder.parent))
        os.replace(folder, aside / folder.name)
        shutil.rmtree(aside)
    except OSError as error:
        raise RunError(f"{folder}: cannot be cleared: {error.strerror}.") from error
