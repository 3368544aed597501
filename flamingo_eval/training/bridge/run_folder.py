"""A folder belongs to one run: the same recipe on the same models."""

from __future__ import annotations

from pathlib import Path

from flamingo_eval.errors import CheckpointError
from flamingo_eval.files import write_atomically
from flamingo_eval.training.bridge.ranks import Ranks

MARKER = "recipe.txt"


def claim_folder(out: Path, identity: str, ranks: Ranks) -> None:
    """Mark a new folder as this run's. Raises CheckpointError if it holds another run: resuming would mix the two."""
    marker, run = out / MARKER, f"{identity}\n"
    if ranks.first:
        out.mkdir(parents=True, exist_ok=True)
        if not marker.is_file():
            write_atomically(marker, run)
    ranks.wait()
    if marker.read_text(encoding="utf-8") != run:
        raise CheckpointError(
            f"{out} contains a run of another recipe, or on other models or data.",
            fix="Pass another --out, or remove that folder.",
        )
