"""A fresh copy of a task: its seed and dials, their text form, and its files."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from flamingo_eval.errors import DataError, UsageError
from flamingo_eval.sample.benchmarks.table import BUILDERS, build
from flamingo_eval.sample.fresh.dials import Dials, set_dials, spelled
from flamingo_eval.sample.world.scenes import SAMPLE_VERSION

MAX_SEED = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Copy:
    """One task, drawn from a seed with dials; tasks without dials have None."""

    task: str
    seed: int
    dials: Dials | None

    @property
    def name(self) -> str:
        """`7`, or with the dials that differ from the defaults `7,ways=3`: the name in records and commands."""
        words = spelled(self.task, self.dials) if self.dials else ""
        return f"{self.seed},{words}" if words else str(self.seed)

    @property
    def dials_by_name(self) -> dict[str, int | float]:
        """Every dial with its value, including defaults."""
        return asdict(self.dials) if self.dials else {}

    def as_json(self) -> dict[str, object]:
        """The content of fresh-<task>.json."""
        about = {"task": self.task, "seed": self.seed, "version": SAMPLE_VERSION, "copy": self.name}
        return {**about, "dials": self.dials_by_name}

    def write(self, root: Path) -> None:
        """The files in the official layout, and last fresh-<task>.json, which describes them."""
        from flamingo_eval.sample.benchmarks.writers import write_json  # draws pictures

        build(self.task, root, self.seed, self.dials)
        write_json(_record(root, self.task), self.as_json())


def copy_of(task: str, words: str) -> Copy:
    """`7`, `7,ways=3,noise=0.1` -> the copy. Raises UsageError for anything else, DataError for a task without sample.

    `size=official` sets the numbers of rows to the benchmark's own.
    """
    if task not in BUILDERS:
        raise DataError(f"{task}: this task has no fresh copies.", fix=f"Tasks: {', '.join(sorted(BUILDERS))}.")
    seed, *rest = words.split(",")
    if not seed.isdecimal() or int(seed) > MAX_SEED:
        raise UsageError(f"sample:{words}: '{seed}' is not a seed.", fix="Write sample:7, or sample:7,ways=3.")
    values: dict[str, str] = {}
    for word in rest:
        name, equals, value = word.partition("=")
        if not equals or name in values:
            what = "is a duplicate" if equals else "is not a dial"
            raise UsageError(f"sample:{words}: '{word}' {what}.", fix="Write sample:7,ways=3.")
        values[name] = value
    size = values.pop("size", "small")
    if size not in ("small", "official"):
        raise UsageError(f"sample:{words}: size={size} is unknown.", fix="Expected small or official.")
    return Copy(task, int(seed), set_dials(task, values, size == "official"))


def recorded_copy(root: Path, task: str) -> str:
    """The name of the copy of a task that was written into a folder; "" if there is none."""
    try:
        about = json.loads(_record(root, task).read_text(encoding="utf-8"))
        return copy_of(task, str(about["copy"])).name
    except (OSError, ValueError, KeyError, TypeError, UsageError, DataError):
        return ""


def _record(root: Path, task: str) -> Path:
    return root / f"fresh-{task}.json"
