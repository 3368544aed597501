"""VizWiz, TextVQA, TextCaps, OK-VQA, Hateful Memes, NoCaps, GQA, Flickr30k: small files as their sites ship them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flamingo_eval.data.layouts import load_labelled, load_split, splits_on_disk
from flamingo_eval.errors import DataError
from tests.support.fixture_types import TaskNamed, Write

TEN = [{"answer": "lime", "answer_confidence": "yes"}] * 9 + [{"answer": "lemon", "answer_confidence": "no"}]


def test_vizwiz_is_a_bare_list_keyed_by_picture(write: Write, task: TaskNamed, tmp_path: Path) -> None:
    row = {"image": "VizWiz_val_1.jpg", "question": "What?", "answer_type": "other", "answerable": 1, "answers": TEN}
    write("Annotations/val.json", [row])
    write("test.json", [{"image": "VizWiz_test_1.jpg", "question": "What?"}])
    picture = write("val/VizWiz_val_1.jpg")
    vizwiz = task("vizwiz")
    (example,) = load_split(vizwiz, tmp_path, "val").examples
    assert (example.id, example.media[0].path, example.answer) == ("VizWiz_val_1.jpg", picture, "lime")
    assert example.references == ("lime",) * 9 + ("lemon",)
    assert example.labels["answer_type"] == "other"
    test = load_split(vizwiz, tmp_path, "test")
    assert (test.labelled, test.examples[0].references) == (False, ())
    assert load_labelled(vizwiz, tmp_path).name == "val"


def test_textvqa_val_pictures_lie_in_train_images(write: Write, task: TaskNamed, tmp_path: Path) -> None:
    row = {"question": "what?", "question_id": 9, "image_id": "00aa", "answers": ["a", "b"], "set_name": "val"}
    write("TextVQA_0.5.1_val.json", {"dataset_type": "val", "data": [row]})
    picture = write("train_images/00aa.jpg")
    (example,) = load_split(task("textvqa"), tmp_path, "val").examples
    assert (example.id, example.media_id, example.media[0].path) == ("9", "00aa", picture)
    assert example.references == ("a", "b")


def test_a_renamed_file_of_another_split_is_named(write: Write, task: TaskNamed, tmp_path: Path) -> None:
    row = {"question": "what?", "question_id": 9, "image_id": "00aa", "answers": ["a"]}
    write("TextVQA_0.5.1_val.json", {"dataset_type": "train", "data": [row]})
    with pytest.raises(DataError, match=r"dataset_type: this file is of 'train'\. Split 'val' needs val\."):
        load_split(task("textvqa"), tmp_path, "val")


def test_textcaps_is_grouped_by_picture(write: Write, task: TaskNamed, tmp_path: Path) -> None:
    rows = [{"image_id": i, "caption_str": c} for i, c in (("b", "One."), ("a", "Two."), ("b", "Three."))]
    write("TextCaps_0.1_val.json", {"dataset_type": "val", "data": rows})
    write("TextCaps_0.1_test.json", {"dataset_type": "test", "data": [{"image_id": "c"}]})
    split = load_split(task("textcaps"), tmp_path, "val")
    assert [(e.id, e.references) for e in split.examples] == [("b", ("One.", "Three.")), ("a", ("Two.",))]
    assert not load_split(task("textcaps"), tmp_path, "test").labelled


def test_okvqa_shows_the_typed_answer_and_compares_with_the_stem(write: Write, task: TaskNamed, tmp_path: Path) -> None:
    write(
        "OpenEnded_mscoco_val2014_questions.json",
        {"questions": [{"question_id": 51, "image_id": 9, "question": "What?"}]},
    )
    answer = {"answer_id": 1, "raw_answer": "racing boats", "answer": "race boat", "answer_confidence": "yes"}
    record = {"question_id": 51, "image_id": 9, "question_type": "six", "answer_type": "other", "answers": [answer]}
    write("mscoco_val2014_annotations.json", {"annotations": [record]})
    (example,) = load_split(task("okvqa"), tmp_path, "val").examples
    assert (example.answer, example.references) == ("racing boats", ("race boat",))


def memes(*labels: int | None) -> list[dict[str, Any]]:
    return [
        {"id": i, "img": f"img/{i:05d}.png", "text": "hi", **({} if x is None else {"label": x})}
        for i, x in enumerate(labels)
    ]


def test_hateful_memes_keeps_the_zeros_of_the_file_name(write: Write, task: TaskNamed, tmp_path: Path) -> None:
    write("test_seen.jsonl", memes(1, 0))
    write("img/00001.png")
    hateful, harmless = load_split(task("hateful_memes"), tmp_path, "test_seen").examples
    assert (hateful.id, hateful.answer, hateful.target, hateful.fields) == ("0", "yes", 1, {"text": "hi"})
    assert (harmless.answer, harmless.media[0].path) == ("no", tmp_path / "img/00001.png")
    assert load_split(task("hateful_memes"), tmp_path, "test_seen").candidates == ("no", "yes")


def test_hateful_memes_of_the_first_phase(write: Write, task: TaskNamed, tmp_path: Path) -> None:
    write("test.jsonl", memes(None, None))
    write("dev.jsonl", memes(1))
    assert splits_on_disk(task("hateful_memes"), tmp_path) == ("test_seen", "dev_seen")
    assert not load_split(task("hateful_memes"), tmp_path, "test_seen").labelled
    assert load_labelled(task("hateful_memes"), tmp_path).name == "dev_seen"


def test_hateful_memes_problems_have_line_numbers(write: Write, task: TaskNamed, tmp_path: Path) -> None:
    write("test_seen.jsonl", '{"id": 1, "img": "a.png", "text": "x", "label": 2}\n{"id": 1, "img": "b.png", "text"\n')
    with pytest.raises(DataError) as caught:
        load_split(task("hateful_memes"), tmp_path, "test_seen")
    assert [(p.line, p.key) for p in caught.value.problems] == [(2, ""), (1, "label")]


def test_nocaps_joins_by_picture_and_keeps_the_domain(write: Write, task: TaskNamed, tmp_path: Path) -> None:
    file = {
        "images": [{"id": 3, "file_name": "00ff.jpg", "domain": "near-domain"}, {"id": 4, "file_name": "01.jpg"}],
        "annotations": [
            {"id": 30, "image_id": 3, "caption": "Two otters."},
            {"id": 31, "image_id": 3, "caption": "A."},
        ],
    }
    write("nocaps_val_4500_captions.json", file)
    with pytest.raises(DataError, match="picture 4 has no caption"):
        load_split(task("nocaps"), tmp_path, "val")
    file["annotations"].append({"id": 32, "image_id": 4, "caption": "B."})
    write("nocaps_val_4500_captions.json", file)
    first, second = load_split(task("nocaps"), tmp_path, "val").examples
    assert (first.id, first.references, first.labels) == ("3", ("Two otters.", "A."), {"domain": "near-domain"})
    assert second.labels == {}
    write("nocaps_test_image_info.json", {"images": file["images"]})
    assert not load_split(task("nocaps"), tmp_path, "test").labelled


def test_gqa_is_an_object_of_questions(write: Write, task: TaskNamed, tmp_path: Path) -> None:
    record = {"imageId": "n12", "question": "What is left?", "answer": "lamp", "isBalanced": True}
    write("questions1.2/testdev_balanced_questions.json", {"990001": record})
    write("images/n12.jpg")
    (example,) = load_split(task("gqa"), tmp_path, "testdev").examples
    assert (example.id, example.references, example.media_id) == ("990001", ("lamp",), "n12")


def test_rows_of_one_picture_share_it(write: Write, task: TaskNamed, tmp_path: Path) -> None:
    record = {"question": "What is left?", "answer": "lamp"}
    questions = {str(n): record | {"imageId": picture} for n, picture in enumerate(("n12", "n13", "n12"))}
    write("questions1.2/testdev_balanced_questions.json", questions)
    first, other, again = load_split(task("gqa"), tmp_path, "testdev").examples
    assert first.media is again.media
    assert first.media != other.media


def test_flickr30k_is_known_by_file_stem(write: Write, task: TaskNamed, tmp_path: Path) -> None:
    sentences = [{"raw": "Two cyclists wait."}]
    write(
        "dataset_flickr30k.json",
        {"images": [{"filename": "7000000001.jpg", "imgid": 3, "split": "test", "sentences": sentences}]},
    )
    picture = write("flickr30k-images/7000000001.jpg")
    (example,) = load_split(task("flickr30k"), tmp_path, "test").examples
    assert (example.id, example.media[0].path) == ("7000000001", picture)


def test_a_caption_that_stands_twice_is_named(write: Write, task: TaskNamed, tmp_path: Path) -> None:
    rows = [{"image_id": "a", "caption_id": 7, "caption_str": c} for c in ("One.", "Two.")]
    write("TextCaps_0.1_val.json", {"dataset_type": "val", "data": rows})
    with pytest.raises(DataError, match=r"data\[1\]\.caption_id: duplicate id 7; first at data\[0\]"):
        load_split(task("textcaps"), tmp_path, "val")


def test_a_pool_that_stands_twice_is_named(write: Write, task: TaskNamed, tmp_path: Path) -> None:
    pool = {"id": "p", "part": "seen", "ways": 2, "names": ["dax", "wug"]}
    pool |= {"support": [{"image": "a.jpg", "name": "dax"}], "queries": [{"image": "b.jpg", "name": "dax"}]}
    write("fastbind.json", {"pools": [pool, pool]})
    with pytest.raises(DataError, match=r"pools\[1\]\.id: duplicate id p"):
        load_split(task("fastbind"), tmp_path, "seen-2")
