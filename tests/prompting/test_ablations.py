"""ablations.py: what each takes away, and that it leaves the rest."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from flamingo_eval.errors import PromptError, UsageError
from flamingo_eval.prompting.ablations import (
    ABLATION_NAMES,
    ABLATIONS,
    BLANK,
    ablate,
    check_ablation,
    shuffle_query_images,
    words_for,
)
from flamingo_eval.prompting.prompts import render, shown
from flamingo_eval.prompting.support import Support
from flamingo_eval.records import Episode, Example, Image
from flamingo_eval.runs.questions import load_question


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


def test_all_pictures_blank_takes_the_query_s_too() -> None:
    two = Episode(replace(row(0), media=(Image("a.jpg"), Image("b.jpg"))), (row(1),))
    blank = ablate(two, "images-all-blank", "0:t", ())
    assert blank.query.media == (BLANK, BLANK)
    assert blank.shots[0].media == (BLANK,)
    assert ablate(two, "images-blank", "0:t", ()).query == two.query


SUPPORT = Support("t", "train", tuple(row(n) for n in range(1, 40)))


def irrelevant(episode: Episode, support: Support = SUPPORT) -> tuple[Example, ...]:
    return ablate(episode, "shots-irrelevant", "0:t", (), support).shots


def test_irrelevant_shots_show_no_right_answer_nor_the_query_s_picture() -> None:
    query = replace(row(1), media_id="7", references=("a2", "a3"))
    shots = irrelevant(Episode(query, SUPPORT.examples[:30]))
    assert len(shots) == 30
    assert not {"1", "2", "3", "7"} & {s.id for s in shots}
    assert shots == irrelevant(Episode(query, SUPPORT.examples[5:35])), "how shots were chosen has no say"
    assert shots[:4] == irrelevant(Episode(query, SUPPORT.examples[:4])), "fewer shots are the first of more"


def test_irrelevant_shots_come_from_other_pools_and_other_operators() -> None:
    pools = Support("t", "s", tuple(replace(row(n), labels={"pool": str(n % 3)}) for n in range(30)))
    shots = irrelevant(Episode(replace(row(99), labels={"pool": "1"}), pools.examples[:8]), pools)
    assert {s.labels["pool"] for s in shots} == {"0", "2"}
    table = {"+": "4", "-": "0", "x": "4"}
    rows = Support("t", "s", tuple(replace(row(n), answer="", labels={"answers": table}) for n in range(9)))
    query = replace(row(99), references=("4",), labels={"answer_key": "+"})
    assert {s.answer for s in irrelevant(Episode(query, rows.examples[:5]), rows)} == {"0"}


def test_too_few_irrelevant_rows_are_an_error() -> None:
    with pytest.raises(PromptError, match="38 are there"):
        irrelevant(Episode(row(1), (*SUPPORT.examples, row(50))))


def test_pictures_in_words_stand_where_the_pictures_stood() -> None:
    question = load_question("vqav2", "flamingo")
    shot = replace(row(1), labels={"in_words": "a dog on a lawn"})
    words = ablate(Episode(row(0), (shot,)), "images-in-words", "0:t", (), SUPPORT)
    assert words.shots[0].media == ()
    text = shown(render(words, question.prompt, question.protocol), question.protocol)
    assert "a dog on a lawn\nQuestion" in text
    assert text.count("<image>") == 1, "the query keeps its picture"
    with pytest.raises(PromptError, match="no words"):
        ablate(Episode(row(0), (row(1),)), "images-in-words", "0:t", (), SUPPORT)


def test_a_caption_task_has_another_caption_for_the_picture() -> None:
    captions = replace(row(1), answer="a dog", references=("a dog", "a brown dog", "a pet"))
    assert words_for(captions) == "a brown dog"
    assert words_for(row(1)) == ""
