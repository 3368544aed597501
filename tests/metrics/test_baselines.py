"""Always repeating an answer of the shots: which one, and what it scores."""

from __future__ import annotations

import pytest

from flamingo_eval.config.specs import MetricSpec
from flamingo_eval.metrics.baselines import (
    BASELINES,
    LAST,
    MAJORITY,
    RANDOM,
    baseline_answers,
    baseline_scores,
    last_shown,
    most_frequent,
    random_shown,
)
from flamingo_eval.records import Example


def _query(id: str, answer: str, candidates: tuple[str, ...] = (), target: int | None = None) -> Example:
    return Example(id, (), id, references=(answer,), candidates=candidates, target=target)


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        (("a", "b", "b"), "b"),
        (("b", "a", "a", "b"), "b"),  # a tie: shown first
        (("a",), "a"),
        (("Yes", "no", "yes "), "Yes"),  # one answer in two spellings: the first
        (("", "x", ""), ""),
        ((), ""),
    ],
)
def test_the_most_frequent_answer_is_said_and_of_equals_the_one_shown_first(
    answers: tuple[str, ...], expected: str
) -> None:
    assert most_frequent(answers) == expected


def test_the_last_answer_is_the_one_next_to_the_query() -> None:
    assert last_shown(("a", "b", "c")) == "c"
    assert last_shown(()) == ""


def test_a_random_shot_depends_on_seed_and_query_alone_and_reaches_every_shot() -> None:
    queries = [_query(f"q{i}", "a") for i in range(200)]
    shot_answers = [("a", "b", "c")] * len(queries)
    first = baseline_answers(RANDOM, queries, shot_answers, seed=0)
    assert first == baseline_answers(RANDOM, queries, shot_answers, seed=0)
    assert first[50:] == baseline_answers(RANDOM, queries[50:], shot_answers[50:], seed=0)
    assert first != baseline_answers(RANDOM, queries, shot_answers, seed=1)
    shares = [first.count(answer) / len(first) for answer in "abc"]
    assert all(0.2 < share < 0.47 for share in shares)
    assert random_shown((), "any") == ""


def test_every_baseline_is_scored_by_the_tasks_own_metric_over_the_same_queries() -> None:
    queries = [_query("q1", "cat"), _query("q2", "dog"), _query("q3", "7")]
    shot_answers = [("cat", "cat", "dog"), ("cat", "Dog", "dog"), ("7", "8", "8")]
    scores = baseline_scores(MetricSpec("exact_match"), queries, shot_answers, seed=0, dialect="normalised")
    assert set(scores) == set(BASELINES)
    assert scores[MAJORITY].value == pytest.approx(200 / 3)
    assert scores[LAST].value == pytest.approx(100 / 3)
    assert all(s.n == 3 for s in scores.values())
    assert scores[MAJORITY].ci95 is not None
    strict = baseline_scores(MetricSpec("exact_match", "exact"), queries, shot_answers, seed=0)
    assert strict[MAJORITY].value == pytest.approx(100 / 3)  # 'Dog' is shown first and is not 'dog'


def test_a_query_without_shots_gets_an_empty_answer_and_without_any_shot_there_is_no_baseline() -> None:
    queries = [_query("q1", "cat"), _query("q2", "dog")]
    scores = baseline_scores(MetricSpec("exact_match"), queries, [("cat",), ()], seed=0)
    assert scores[MAJORITY].value == 50
    assert baseline_scores(MetricSpec("exact_match"), queries, [(), ()], seed=0) == {}


def test_of_candidates_the_one_with_the_answers_text_is_chosen() -> None:
    queries = [_query("q1", "", ("no", "yes"), 1), _query("q2", "", ("no", "yes"), 0)]
    scores = baseline_scores(MetricSpec("roc_auc"), queries, [("no", "yes"), ("yes", "no")], seed=0)
    assert scores[LAST].value == 100
    own = [_query("q1", "", ("tea", "milk"), 0), _query("q2", "", ("cup", "tea"), 1)]
    shot_answers = [("milk", "tea"), ("bowl", "bowl")]
    assert baseline_scores(MetricSpec("top1"), own, shot_answers, seed=0)[LAST].value == 50
    split = [_query("q1", "", (), 0), _query("q2", "", (), 1)]
    scores = baseline_scores(MetricSpec("top1"), split, [("ant",), ("ant",)], seed=0, candidates=("ant", "bee"))
    assert scores[MAJORITY].value == 50


def test_an_answer_that_is_no_candidate_is_never_right() -> None:
    queries = [_query("q1", "", ("tea", "milk"), 0), _query("q2", "", ("cup", "tea"), 0)]
    scores = baseline_scores(MetricSpec("top1"), queries, [("bowl",), ("bowl",)], seed=0)
    assert scores[MAJORITY].value == 0
