"""Text twins, after VL-ICL's `clevr_text` and its siblings: the rows of a task with their pictures in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from flamingo_eval.sample.benchmarks.writers import write_json


def write_text_twin(
    root: Path, task: str, part: str, rows: Sequence[Mapping[str, object]], texts: Sequence[str]
) -> None:
    """<task>_text/<part>.json: each row without its pictures, `text` in their place; ids name this folder.

    `texts`: what the pictures of each row show, aligned with the rows.
    """
    twins = []
    for row, text in zip(rows, texts, strict=True):
        rest = {key: value for key, value in row.items() if key not in ("id", "image")}
        twins.append({"id": str(row["id"]).replace(f"{task}_", f"{task}_text_", 1), "text": text, **rest})
    write_json(root / f"{task}_text" / f"{part}.json", twins)
