"""episodes.py: an episode is made when it is asked for, and is the same whenever that is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from flamingo_eval.config.specs import DemoMethod
from flamingo_eval.errors import PromptError
from flamingo_eval.prompting import episodes
from flamingo_eval.prompting.demos import random_demos
from flamingo_eval.prompting.episodes import Episodes, episodes_by_id, episodes_of, without
from flamingo_eval.prompting.support import Support
from flamingo_eval.records import Example
from flamingo_eval.runs.plan import Choices, PlannedRun, plan_runs
from flamingo_eval.runs.questions import load_questions


@pytest.fixture
def planned(vqa_root: Path) -> Callable[[int, DemoMethod, str], PlannedRun]:
    def plan(shots: int, method: DemoMethod, ablation: str) -> PlannedRun:
        questions, _ = load_questions(["vqav2"], "flamingo")
        (run,) = plan_runs(questions, Choices((shots,), demos=method, ablation=ablation, data=str(vqa_root)))
        return run

    return plan


@pytest.mark.parametrize("method", ["random", "balanced", "fixed"])
@pytest.mark.parametrize("ablation", ["", "labels-replaced", "query-images-shuffled"])
@pytest.mark.parametrize("shots", [0, 2])
def test_episodes_made_one_by_one_in_any_order_are_those_of_the_run(
    planned: Callable[[int, DemoMethod, str], PlannedRun], method: DemoMethod, ablation: str, shots: int
) -> None:
    run = planned(shots, method, ablation)
    expected = list(episodes_of(run, run.queries, run.support))
    run_episodes = episodes_by_id(run, run.queries, run.support)
    assert isinstance(run_episodes, Episodes)
    assert list(run_episodes.values()) == expected
    assert [run_episodes[e.query.id] for e in reversed(expected)] == expected[::-1]
    left = without(run_episodes, {expected[0].query.id, expected[3].query.id})
    assert list(left.values()) == [*expected[1:3], *expected[4:]]
    assert len(left) == len(expected) - 2


def test_no_shots_are_drawn_before_an_episode_is_asked_for(
    planned: Callable[[int, DemoMethod, str], PlannedRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[str] = []

    def counted(query: Example, *more: object) -> tuple[Example, ...]:
        drawn.append(query.id)
        return random_demos(query, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(episodes, "random_demos", counted)
    run = planned(2, "random", "")
    run_episodes = episodes_by_id(run, run.queries, run.support)
    assert drawn == []
    second = list(run_episodes)[1]
    assert run_episodes[second].query.id == second
    assert drawn == [second]


def test_too_few_shots_for_a_query_are_known_before_any_episode_is_made(
    planned: Callable[[int, DemoMethod, str], PlannedRun],
) -> None:
    run = planned(2, "random", "")
    with pytest.raises(PromptError, match="shots requested, but only"):
        episodes_by_id(planned(2, "random", ""), run.queries, _cut(run))


def _cut(run: PlannedRun) -> Support:
    assert run.support is not None
    return replace(run.support, examples=run.support.examples[:1])
