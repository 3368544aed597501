"""ablations.py: what each takes away, and that it leaves the rest."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from flamingo_eval.errors import UsageError
from flamingo_eval.prompting.ablations import (
    ABLATION_NAMES,
    ABLATIONS,
    BLANK,
    ablate,
    check_ablation,
    shuffle_query_images,
)
from flamingo_eval.records import Episode, Example, Image


def row(n: int, picture: int | None = None) -> Example:
    picture = n if picture is None else picture
    return Example(str(n), (Image(f"{picture}.jpg"),), str(picture), {"question": f"q{n}"}, answer=f"a{n}")


EPISODE = Episode(row(0), tuple(row(n) for n in range(1, 9)))
ANSWERS = tuple(f"a{n}" for n in range(1, 50))


def changed(name: str) -> Episode:
    return ablate(EPISODE, name, "0:t", ANSWERS)


@pytest.mark.parametrize("name", sorted(ABLATIONS))
def test_every_ablation_is_keyed_and_keeps_ids_and_references(name: str) -> None:
    assert changed(name) == changed(name)
    assert changed(name) != EPISODE
    assert changed(name).query.references == EPISODE.query.references
    assert Counter(s.id for s in changed(name).shots) == Counter(s.id for s in EPISODE.shots)


def test_no_ablation_changes_nothing() -> None:
    assert ablate(EPISODE, "", "0:t", ANSWERS) is EPISODE


def test_shuffled_labels_are_a_permutation_without_fixed_points() -> None:
    shots = changed("labels-shuffled").shots
    assert sorted(s.answer for s in shots) == sorted(s.answer for s in EPISODE.shots)
    assert all(a.answer != b.answer and a.media == b.media for a, b in zip(shots, EPISODE.shots, strict=True))


def test_shuffled_images_are_a_permutation_without_fixed_points() -> None:
    shots = changed("images-shuffled").shots
    assert all(a.answer == b.answer and a.media != b.media for a, b in zip(shots, EPISODE.shots, strict=True))
    assert Counter(s.media for s in shots) == Counter(s.media for s in EPISODE.shots)


def test_random_labels_come_from_the_support() -> None:
    assert all(s.answer in ANSWERS for s in changed("labels-random").shots)


def test_replaced_labels_keep_who_agrees_with_whom() -> None:
    episode = Episode(row(0), (row(1), row(2), Example("3", (), "3", answer="a1")))
    labels = [s.answer for s in ablate(episode, "labels-replaced", "k", ()).shots]
    assert labels == ["label1", "label2", "label1"]


def test_order_and_pictures() -> None:
    assert changed("order-reversed").shots == EPISODE.shots[::-1]
    assert all(s.media == (BLANK,) for s in changed("images-blank").shots)
    assert changed("query-image-blank").query.media == (BLANK,)
    assert changed("query-image-removed").query.media == ()
    assert Path(BLANK.path).is_file()


def test_query_images_go_to_other_queries() -> None:
    queries = [row(n, n // 2) for n in range(40)]
    shuffled = shuffle_query_images(queries, "t")
    assert all(a.media != b.media and a.id == b.id for a, b in zip(shuffled, queries, strict=True))
    assert Counter(q.media for q in shuffled) == Counter(q.media for q in queries)
    by_id = {q.id: q for q in shuffle_query_images(queries[::-1], "t")}
    assert [by_id[q.id] for q in queries] == list(shuffled)


def test_a_misspelt_ablation() -> None:
    with pytest.raises(UsageError, match="Did you mean 'labels-shuffled'"):
        check_ablation("label-shuffled")
    for name in ("", *ABLATION_NAMES):
        check_ablation(name)
