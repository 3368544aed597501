"""What an answer takes over from its shots' answers, and what taking it over is worth."""

from __future__ import annotations

import pytest

from flamingo_eval.config.specs import MetricSpec
from flamingo_eval.metrics import METRICS, answer_reader
from flamingo_eval.metrics.baselines import LAST, MAJORITY
from flamingo_eval.metrics.copying import UNCOVERED, answer_text, right_answers, shot_use
from flamingo_eval.records import Best, Copying, Example, Prediction

EXACT = MetricSpec("exact_match")


def example(id: str, *references: str, candidates: tuple[str, ...] = (), target: int | None = None) -> Example:
    return Example(id, (), f"picture {id}", references=references, candidates=candidates, target=target)


def one(text: str, shot_answers: list[str], *references: str, metric: str = "exact_match") -> Copying:
    use = shot_use([Prediction("q", text)], [example("q", *references)], [shot_answers], MetricSpec(metric))
    (copying,) = use.queries
    assert copying is not None
    return copying


def test_an_answer_of_a_shot_is_a_copy() -> None:
    copying = one("red", ["blue", "red", "blue"], "green")
    assert (copying.any, copying.majority, copying.last) == (True, False, False)
    assert (copying.covered, copying.right) == (False, False)
    copying = one("blue", ["blue", "red", "blue"], "blue")
    assert (copying.any, copying.majority, copying.last) == (True, True, True)
    assert (copying.covered, copying.right) == (True, True)
    copying = one("green", ["blue", "red", "blue"], "green")
    assert (copying.any, copying.covered, copying.right) == (False, False, True)


def test_of_equally_frequent_answers_the_first_is_the_most_frequent_one() -> None:
    assert one("red", ["red", "blue"], "x").majority
    assert not one("blue", ["red", "blue"], "x").majority


@pytest.mark.parametrize(
    ("metric", "text", "same_text"),
    [
        ("exact_match", " Red.", "red"),
        ("vqa_accuracy", "The two dogs!", "2 dogs"),
        ("vl_icl_text", "Dax.\nThis is", "dax"),
        ("vl_icl_count", "3 objects", "3"),
        ("vl_icl_number", "= -3", "-3"),
        ("vl_icl_yes_no", "Yes, they do", "yes"),
        ("cider", "A red ball, on grass.", "a red ball on grass"),
    ],
)
def test_answers_are_compared_after_the_task_s_own_normalisation(metric: str, text: str, same_text: str) -> None:
    read = answer_reader(metric)
    assert read(text) == read(same_text)
    assert read(text) != read("something else")


def test_the_sign_of_a_number_tells_answers_apart() -> None:
    read = answer_reader("vl_icl_number")
    assert read("3") != read("-3")
    assert read("07") == read("7")
    assert read("-0") == read("0")


def test_every_metric_reads_answers() -> None:
    assert all(answer_reader(name)("Red") for name in METRICS)


def test_always_saying_an_answer_has_the_metric_s_own_score() -> None:
    shot_answers = [["red", "red", "blue"], ["blue", "blue", "red"], ["green", "red", "red"]]
    queries = [example("a", "red"), example("b", "red"), example("c", "red")]
    use = shot_use([Prediction(e.id, "x") for e in queries], queries, shot_answers, EXACT)
    assert [c.majority_score for c in use.queries if c] == [100.0, 0.0, 100.0]
    assert [c.last_score for c in use.queries if c] == [0.0, 100.0, 100.0]
    assert use.scores == {}


def test_queries_without_shots_have_nothing_to_copy() -> None:
    queries = [example("a", "red"), example("b", "red")]
    use = shot_use([Prediction("a", "red"), Prediction("b", "red")], queries, [[], ["red"]], EXACT)
    assert use.queries[0] is None
    assert use.queries[1] is not None
    assert shot_use([Prediction("a", "red")], queries[:1], [[]], EXACT).queries == (None,)


def test_without_public_answers_copies_are_counted_and_nothing_is_scored() -> None:
    use = shot_use([Prediction("a", "red")], [example("a")], [["red"]], EXACT, labelled=False)
    assert use.queries == (Copying(any=True, majority=True, last=True),)


def test_a_close_ended_answer_is_the_text_of_the_best_candidate() -> None:
    metric, names = MetricSpec("top1"), ("cat", "dog", "owl")
    queries = [example("a", target=1), example("b", target=2)]
    predictions = [Prediction("a", scores=(0.0, 2.0, 1.0)), Prediction("b", best=Best(0, -1.0))]
    use = shot_use(predictions, queries, [["owl", "dog"], ["eel", "eel"]], metric, candidates=names)
    assert use.queries == (
        Copying(any=True, last=True, covered=True, right=True, majority_score=0.0, last_score=100.0),
        Copying(covered=False, right=False, majority_score=0.0, last_score=0.0),
    )
    assert answer_text(predictions[1], names) == "cat"
    assert right_answers(queries[0], names) == ("dog",)


def test_a_corpus_metric_scores_the_set_and_not_the_queries() -> None:
    metric, names = MetricSpec("roc_auc"), ("no", "yes")
    queries = [example(str(i), candidates=names, target=i % 2) for i in range(8)]
    shot_answers = [["yes", "yes", "no"] if i % 2 else ["no", "no", "yes"] for i in range(8)]
    use = shot_use([Prediction(e.id, scores=(0.0, 1.0)) for e in queries], queries, shot_answers, metric)
    assert use.scores[MAJORITY].value == 100.0
    assert use.scores[LAST].value == 0.0
    assert UNCOVERED not in use.scores, "every shot set shows both answers"
    assert all(c is not None and c.majority_score is None for c in use.queries)


def test_an_answer_alone_is_no_ranking() -> None:
    queries = [Example("a", (), "p", candidates=("x", "y"), target=0, labels={"relevance": (1.0, 0.0)})]
    use = shot_use([Prediction("a", scores=(1.0, 0.0))], queries, [["x"]], MetricSpec("ndcg"))
    assert use.queries == (Copying(any=True, majority=True, last=True, covered=True, right=True),)
    assert use.scores == {}
