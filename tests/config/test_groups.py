"""Groups of tasks: one name for several, in `run`, `sample` and `list`."""

from __future__ import annotations

import pytest

from flamingo_eval.config.groups import GROUPS, expanded, group_names, groups_of, members
from flamingo_eval.config.names import task_names
from flamingo_eval.errors import ConfigError
from flamingo_eval.runs.questions import load_questions


def test_groups_are_of_tasks_that_there_are() -> None:
    for name, tasks in GROUPS.items():
        assert name not in task_names()
        assert set(tasks) <= set(task_names())
        assert len(set(tasks)) == len(tasks)
    assert len(members("paper")) == 18
    assert members("all") == tuple(task_names())
    assert set(members("vl_icl")) < set(members("icl"))


def test_names_are_expanded_once_and_in_order() -> None:
    assert expanded(["vl_icl_clevr", "vl_icl", "coco"])[:2] == ("vl_icl_clevr", "vl_icl_open_mi")
    assert len(expanded(["vl_icl_clevr", "vl_icl", "coco"])) == 7
    assert groups_of("vl_icl_clevr") == ("vl_icl", "icl")
    assert groups_of("gqa") == ()
    assert set(group_names()) == {"paper", "vl_icl", "smmile_all", "isekai", "truemicl", "icl", "all"}


@pytest.mark.slow
def test_a_group_runs_the_tasks_that_the_protocol_covers_and_names_the_others() -> None:
    questions, remarks = load_questions(["paper"], "idefics")
    assert {q.task.name for q in questions} < set(members("paper"))
    assert any(r.startswith("coco is skipped") for r in remarks)
    with pytest.raises(ConfigError, match="no prompt"):
        load_questions(["paper", "coco"], "idefics")
