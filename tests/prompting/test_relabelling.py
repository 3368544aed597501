"""Labels that change places for a whole run."""

from __future__ import annotations

from dataclasses import replace

import pytest

from flamingo_eval.config.names import find_task
from flamingo_eval.data.task_file import load_task
from flamingo_eval.prompting.relabelling import labels_permuted, why_not_permuted
from flamingo_eval.prompting.support import Support
from flamingo_eval.records import Episode, Example, Split

WORDS = ("red", "blue", "green", "a red ball", "a blue ball", "1", "2", "3", "yes", "no")


def row(number: int, answer: str, **labels: object) -> Example:
    return Example(str(number), (), str(number), answer=answer, references=(answer,), labels=labels)


def support(*rows: Example, candidates: tuple[str, ...] = ()) -> Support:
    return Support("t", "train", rows, candidates=candidates)


ROWS = tuple(row(n, answer) for n, answer in enumerate(WORDS))


def mapping(key: str = "0:t") -> dict[str, str]:
    episode = labels_permuted(Episode(row(99, "red"), ROWS), key, support(*ROWS))
    return dict(zip(WORDS, (shot.answer for shot in episode.shots), strict=True))


def test_every_answer_becomes_another_one_of_its_form() -> None:
    names = mapping()
    assert sorted(names.values()) == sorted(WORDS)
    assert all(old != new for old, new in names.items())
    assert (names["yes"], names["no"]) == ("no", "yes")
    assert {names[n] for n in "123"} == set("123")
    assert {names["a red ball"], names["a blue ball"]} == {"a red ball", "a blue ball"}


def test_one_permutation_holds_for_all_queries_and_their_references() -> None:
    names, pool = mapping(), support(*ROWS)
    for answer in WORDS:
        query = replace(row(50, answer), references=(answer, "mauve", answer))
        episode = labels_permuted(Episode(query, (ROWS[0],)), "0:t", pool)
        assert episode.query.references == (names[answer], "mauve", names[answer])
        assert episode.query.answer == names[answer]
        assert episode.shots[0].answer == names["red"]


def test_seeds_have_permutations_of_their_own() -> None:
    assert len({tuple(mapping(f"{seed}:t").values()) for seed in range(8)}) > 1


def test_in_a_pool_its_own_answers_change_places() -> None:
    rows = (row(1, "dax", pool="a"), row(2, "wug", pool="a"), row(3, "blick", pool="b"), row(4, "fep", pool="b"))
    one = labels_permuted(Episode(row(9, "dax", pool="a"), rows[:2]), "0:t", support(*rows))
    assert [s.answer for s in one.shots] == ["wug", "dax"]
    assert one.query.references == ("wug",)


def test_classes_change_places_by_index() -> None:
    names = ("crane", "owl", "crane")  # a bird and a machine
    rows = tuple(replace(row(i, names[i]), target=i, references=()) for i in range(3))
    episode = labels_permuted(Episode(rows[0], rows[1:]), "0:t", support(*rows, candidates=names))
    targets = [e.target for e in (episode.query, *episode.shots)]
    assert sorted(t for t in targets if t is not None) == [0, 1, 2]
    assert all(old != new for old, new in enumerate(targets))
    assert [e.answer for e in (episode.query, *episode.shots)] == [names[t] for t in targets if t is not None]


@pytest.mark.parametrize(
    ("task", "why"), [("coco", "cider compares more than labels"), ("star", "every query has choices of its own")]
)
def test_captions_and_choices_of_one_query_are_no_labels(task: str, why: str) -> None:
    assert why_not_permuted(load_task(find_task(task)), Split("train", ROWS, ())) == why


def test_short_answers_and_classes_are_labels() -> None:
    assert why_not_permuted(load_task(find_task("vqav2")), Split("train", ROWS, ())) == ""
    assert why_not_permuted(load_task(find_task("imagenet")), Split("train", ROWS, (), ("owl",))) == ""
