"""`--data hub`: a mirror on the Hugging Face Hub, read with `datasets` as rows of its Arrow files.

The task has the same name, prompt and metrics; its data has the layout `rows`. Pictures stay in the Arrow files and are
decoded when shown. `datasets` rejects mirrors that are Python scripts; they never run.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from flamingo_eval.config.specs import DataSpec, TaskSpec
from flamingo_eval.errors import DataError, UsageError


def from_hub(task: TaskSpec, split: str) -> tuple[TaskSpec, Path]:
    """The task with the data of its mirror, and the folder of the data; downloads missing files.

    Raises UsageError for a task without a mirror, or a split that the mirror does not have.
    """
    hub = task.data.hub
    if hub is None:
        raise UsageError(
            f"{task.name} has no complete mirror on the Hub.",
            fix=f"Give the official files with --data DIR. Data: {task.data.source}",
        )
    if split not in hub.splits:
        raise UsageError(
            f"{task.name}: the mirror {hub.dataset[0]} has no split '{split}'.",
            fix=f"It has: {', '.join(hub.splits)}. {hub.notes}".rstrip(),
        )
    files, classes = _download(hub.dataset, hub.config, hub.revision, hub.splits[split], hub.columns.get("label", ""))
    root = Path(os.path.commonpath([file.parent for file in files]))
    roles: Mapping[str, tuple[str, ...]] = {"rows": (_one_name(files, root),), "classes": classes}
    splits = {name: roles if name == split else {} for name in task.data.splits}
    data = DataSpec("rows", splits, task.data.query, task.data.support, task.data.source, hub.columns)
    return replace(task, data=replace(data, counts=task.data.counts)), root


def _one_name(files: tuple[Path, ...], root: Path) -> str:
    """The role's entry for one file, or for shards `x-00000-of-00002.arrow`: the pattern of exactly these."""
    name = str(files[0].relative_to(root))
    return name if len(files) == 1 else name.replace("-00000-of-", "-*-of-")


@lru_cache(maxsize=64)
def _download(
    names: tuple[str, ...], config: str, revision: str, split: str, label: str
) -> tuple[tuple[Path, ...], tuple[str, ...]]:
    """Arrow files of one split in the cache of `datasets`, and the class names of its label column."""
    import datasets

    failures = []
    for name in names:
        try:
            dataset: Any = datasets.load_dataset(name, config or None, split=split, revision=revision or None)
        except (datasets.exceptions.DatasetsError, OSError, ValueError, RuntimeError) as error:
            failures.append(f"{name}: {str(error).splitlines()[0] if str(error) else type(error).__name__}")
            continue
        files = tuple(Path(entry["filename"]) for entry in dataset.cache_files)
        if not files:
            raise DataError(f"{name}, split {split}: `datasets` stored no files of it.")
        feature = dataset.features.get(label) if label else None
        return files, tuple(getattr(feature, "names", None) or ())
    raise DataError(
        "\n  ".join(["the Hub mirror cannot be read:", *failures]), fix="Or give the files with --data DIR."
    )
