"""A benchmark is asked in its own protocol where the user names none, in the form that the model takes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from flamingo_eval.cli.run import _protocols
from flamingo_eval.config.names import find_task, protocol_names, task_names
from flamingo_eval.data.task_file import load_task
from flamingo_eval.runs.plan import Choices, PlannedRun, plan_runs
from flamingo_eval.runs.questions import load_question, load_questions, own_protocol
from flamingo_eval.sample.fresh.copies import copy_of


@pytest.mark.parametrize(
    ("usual", "asked"),
    [
        ("flamingo", "vl_icl"),
        ("openflamingo", "vl_icl"),
        ("chat", "vl_icl_turn"),  # one user turn, as the released code asks LLaVA-OneVision
    ],
)
def test_the_form_is_the_models(usual: str, asked: str) -> None:
    assert load_question("vl_icl_clevr", usual, usual=True).protocol.name == asked
    assert load_question("vqav2", usual, usual=True).protocol.name == usual


def test_a_protocol_that_is_named_is_taken() -> None:
    assert load_question("vl_icl_clevr", "flamingo").protocol.name == "flamingo"
    assert load_question("vl_icl_clevr", "vl_icl_idefics:concise").protocol.name == "vl_icl_idefics:concise"


def test_a_usual_protocol_with_its_own_name_in_the_task_comes_before_its_style() -> None:
    task = load_task(find_task("vl_icl_clevr"))
    task = replace(task, protocols={**task.protocols, "idefics": "vl_icl_idefics"})
    assert own_protocol(task, "idefics") == "vl_icl_idefics"
    assert own_protocol(task, "flamingo") == "vl_icl"


@pytest.mark.slow
@pytest.mark.parametrize("name", task_names())
def test_every_own_protocol_of_a_shipped_task_covers_it(name: str) -> None:
    for protocol in load_task(find_task(name)).protocols.values():
        assert protocol in protocol_names()
        load_question(name, protocol)


def test_the_banner_says_which_tasks_are_asked_in_their_own(tmp_path_factory: pytest.TempPathFactory) -> None:
    root = tmp_path_factory.mktemp("data")
    for task in ("vl_icl_clevr", "vl_icl_textocr"):
        copy_of(task, "1,queries=2,support=2").write(root)

    def planned(tasks: list[str], protocol: str, *, usual: bool) -> list[PlannedRun]:
        questions, _ = load_questions(tasks, protocol, usual=usual)
        return plan_runs(questions, Choices(shots=(1,), data=str(root)))

    own = planned(["vl_icl_clevr"], "flamingo", usual=True)
    both = planned(["vl_icl_clevr", "vl_icl_textocr"], "flamingo", usual=True)
    named = planned(["vl_icl_clevr"], "flamingo", usual=False)
    assert _protocols(own, "flamingo", "") == "protocol vl_icl (the task's own)"
    assert _protocols(both, "flamingo", "") == "protocol vl_icl (the tasks' own)"
    assert _protocols([*own, *named], "flamingo", "no template") == (
        "protocol flamingo (no template), vl_icl for vl_icl_clevr (its own)"
    )
    assert _protocols(named, "", "") == "protocol flamingo"
