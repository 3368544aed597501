"""Names of shards: `shard-{000..099}.tar`, `part-*.parquet`, or one file; all missing ones are reported at once."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import product
from pathlib import Path

from flamingo_eval.errors import DataError, Problem, counted, problems_in
from flamingo_eval.files import placeholder

_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
MAX_SHARDS = 1_000_000


def shard_paths(name: str, patterns: Sequence[str], folder: Path) -> tuple[Path, ...]:
    """The files that match the patterns of data set `name`; relative patterns are below `folder`.

    `{000..099}` counts as in a shell, and every file must exist; `*` matches existing files, sorted.
    Raises DataError with every missing or empty file.
    """
    paths: list[Path] = []
    problems: list[Problem] = []
    for pattern in patterns:
        for plain in expanded(pattern):
            if any(mark in plain for mark in "*?["):
                place = Path(plain)
                base = Path(place.anchor) if place.is_absolute() else folder
                files = sorted(base.glob(str(place.relative_to(place.anchor)) if place.is_absolute() else plain))
                if not files:
                    problems.append(Problem(f"no file matches '{plain}' in {base}."))
                paths += [path for path in files if path.is_file()]
            else:
                paths.append(folder / plain)
    for path in paths:
        if not path.is_file():
            problems.append(Problem(f"shard {path} is missing."))
        elif path.stat().st_size == 0:
            problems.append(Problem(f"shard {path} is empty."))
        elif instead := placeholder(path):
            problems.append(Problem(f"shard {path}: {instead}"))
    if problems:
        raise problems_in(f"data set '{name}'", problems, DataError)
    return tuple(dict.fromkeys(paths))


def expanded(pattern: str) -> list[str]:
    """`a-{08..11}.tar` -> a-08.tar, a-09.tar, a-10.tar, a-11.tar. Raises DataError for a range that decreases."""
    texts = _RANGE.split(pattern)
    fixed, ranges = texts[::3], list(zip(texts[1::3], texts[2::3], strict=True))
    counts = []
    for first, last in ranges:
        if int(last) < int(first) or int(last) - int(first) >= MAX_SHARDS:
            raise DataError(
                f"'{pattern}': the range {{{first}..{last}}} is not from 0 to {counted(MAX_SHARDS, 'shard')}."
            )
        width = len(first) if len(first) == len(last) or first.startswith("0") else 0
        counts.append([str(n).zfill(width) for n in range(int(first), int(last) + 1)])
    return [
        "".join(piece for pair in zip(fixed, (*numbers, ""), strict=True) for piece in pair)
        for numbers in product(*counts)
    ]
