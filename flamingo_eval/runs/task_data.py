"""The two splits of a task, read once and shared by the runs of all shots and seeds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from flamingo_eval.config.specs import RunSpec, TaskSpec
from flamingo_eval.data import layouts
from flamingo_eval.data.roots import DataRoot, as_data_root
from flamingo_eval.data.words import with_words
from flamingo_eval.errors import DataError
from flamingo_eval.prompting.ablations import IMAGES_IN_WORDS
from flamingo_eval.prompting.support import Given
from flamingo_eval.records import Split
from flamingo_eval.runs import identity
from flamingo_eval.runs.provenance import name_below, sha256_files


@dataclass(frozen=True, slots=True)
class TaskData:
    """The two splits of a task, read once and shared by all shots and seeds."""

    task: TaskSpec
    root: Path | DataRoot
    queries: Split
    support: Split | None
    inputs: Mapping[str, str] = field(default_factory=dict)  # sha256 by file
    given: Given | None = None  # fixed demonstrations


def load_data(
    task: TaskSpec,
    root: Path | DataRoot,
    split: str | None = None,
    with_support: bool = True,
    media: bool = True,
    ablation: str = "",
) -> TaskData:
    """Read the query split (the task's, or `split`) and the support split of a task.

    Without `media` the examples have no pictures. `ablation`: the run's; pictures in words are read for the one that
    shows them.
    """
    queries = layouts.load_split(task, root, split or task.data.query, media=media)
    if not queries.examples:
        raise DataError(f"{task.name}: split '{queries.name}' has no examples.")
    support = None
    if with_support and task.data.support is not None:
        is_same_split = task.data.support == queries.name
        support = queries if is_same_split else layouts.load_split(task, root, task.data.support, media=media)
        if ablation == IMAGES_IN_WORDS:
            support = with_words(task, root, support)
    files = [*queries.files, *(support.files if support else ())]
    return TaskData(task, root, queries, support, sha256_files(files, as_data_root(root).folder))


def fingerprint(spec: RunSpec, data: TaskData) -> str:
    """Hash of all that decides the outputs: choices and contents of data files. Part of the folder's name."""
    return identity.fingerprint(spec, _contents(data.queries, data), _contents(data.support, data))


def _contents(split: Split | None, data: TaskData) -> list[str]:
    """Digests of a split's files, in the order in which they are read."""
    root = as_data_root(data.root).folder
    return [data.inputs[name_below(file, root)] for file in split.files] if split is not None else []
