"""Every task has a sample in its official layout that its own loader reads, with both parts and readable media."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

from flamingo_eval.config import load_task
from flamingo_eval.datasets import load_split
from flamingo_eval.datasets.check import check_task
from flamingo_eval.find import task_names
from flamingo_eval.sample import actions, classification, drawn, fastbind, layouts, sample_root
from flamingo_eval.sample.layouts import BUILDERS

TASKS = Path(__file__).parents[2] / "tasks"
SMALL: dict[ModuleType, dict[str, object]] = {
    layouts: {"PARTS": {"train2014": ("train", 6, 1), "val2014": ("eval", 4, 101)}},
    fastbind: {"POOLS": 2, "VIEWS": 4, "SHOT_VIEWS": 2, "QUERIES": 2, "OBJECTS": 8},
    drawn: {"TRAIN_ROWS": 16, "EVAL_ROWS": 8},
    classification: {"CLASSES": 4, "TRAIN_VIEWS": 3, "EVAL_VIEWS": 2},
    actions: {"OBJECTS": 2, "TRAIN_CLIPS": 2, "EVAL_CLIPS": 1, "EVAL_ROWS": 8},
}


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLAMINGO_EVAL_CACHE", str(tmp_path_factory.mktemp("cache")))
        for module, values in SMALL.items():
            for name, value in values.items():
                patch.setattr(module, name, value)
        yield


def test_every_task_has_a_sample():
    assert sorted(BUILDERS) == sorted(task_names())


@pytest.mark.parametrize("name", sorted(BUILDERS))
def test_the_loader_reads_both_parts(name):
    task = load_task(TASKS / f"{name}.yaml")
    root = sample_root(name)
    queries = load_split(task, root, task.data.query)
    assert len(queries.examples) >= 4
    assert len({e.id for e in queries.examples}) == len(queries.examples)
    assert queries.labelled
    if task.data.support is None:
        assert task.max_shots == 0
        return
    support = load_split(task, root, task.data.support)
    assert len(support.examples) >= 6
    assert not {e.media_id for e in queries.examples} & {e.media_id for e in support.examples}


@pytest.mark.parametrize("name", sorted(BUILDERS))
def test_check_finds_nothing_but_counts_that_are_not_the_official_ones(name):
    """Every picture and clip is there and opens."""
    report = check_task(load_task(TASKS / f"{name}.yaml"), sample_root(name))
    assert sum(s.media for s in report.splits) >= 3
    assert [str(p) for p in report.problems if "official" not in str(p)] == []
