"""MSVD-QA, MSRVTT-QA, VATEX, iVQA, YouCook2, STAR, NExT-QA, RareAct, Kinetics: small files as their sites ship them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flamingo_eval.data.layouts import load_labelled, load_split
from flamingo_eval.data.layouts.rareact import classes
from flamingo_eval.errors import DataError
from flamingo_eval.records import Video
from tests.support.fixture_types import TaskNamed, Write

MSVD = [{"answer": "kite", "id": 7, "question": "what is a boy flying?", "video_id": 31}]
MSRVTT = [{"answer": "drum", "category_id": 3, "id": 90, "question": "who hits?", "video_id": 7777}]


@pytest.mark.parametrize("name", ["vid31.avi", "vid31.mp4", "a-b_c_10_12.avi"])
def test_msvd_clips_have_three_names(write: Write, task: TaskNamed, tmp_path: Path, name: str) -> None:
    write("test_qa.json", MSVD)
    write("youtube_mapping.txt", "a-b_c_10_12 vid31\n")
    clip = write(f"YouTubeClips/{name}")
    (example,) = load_split(task("msvdqa"), tmp_path, "test").examples
    assert example.media == (Video(clip),)
    assert (example.id, example.references, example.labels["question_type"]) == ("7", ("kite",), "what")


def test_msvd_and_msrvtt_files_are_told_apart(write: Write, task: TaskNamed, tmp_path: Path) -> None:
    write("test_qa.json", MSRVTT)
    with pytest.raises(DataError, match=r"its records have `category_id`: this is MSRVTT-QA, not MSVD-QA"):
        load_split(task("msvdqa"), tmp_path, "test")
    clip = write("TestVideo/video7777.mp4")
    (example,) = load_split(task("msrvttqa"), tmp_path, "test").examples
    assert example.media == (Video(clip),)
    write("test_qa.json", MSVD)
    with pytest.raises(DataError, match="this is MSVD-QA, not MSRVTT-QA"):
        load_split(task("msrvttqa"), tmp_path, "test")


def test_msrvtt_files_renamed_to_another_split_are_caught(write: Write, task: TaskNamed, tmp_path: Path) -> None:
    write("train_qa.json", MSRVTT)
    with pytest.raises(DataError, match=r"clip 7777 is not of split 'train' \(0-6512\)"):
        load_split(task("msrvttqa"), tmp_path, "train")


def test_vatex_ids_are_split_from_the_right(write: Write, task: TaskNamed, tmp_path: Path) -> None:
    id = "-b_d_fGh0__000012_000022"
    write("vatex_public_test_english_v1.1.json", [{"videoID": id, "enCap": ["One.", "Two."]}])
    whole = write("videos/-b_d_fGh0_.mkv")
    vatex = task("vatex")
    (example,) = load_split(vatex, tmp_path, "test").examples
    assert (example.media, example.references) == ((Video(whole, 12.0, 22.0),), ("One.", "Two."))
    cut = write(f"videos/{id}.webm")
    assert load_split(vatex, tmp_path, "test").examples[0].media == (Video(cut),)
    write("vatex_private_test_without_annotations.json", [{"videoID": id}])
    assert not load_split(vatex, tmp_path, "private_test").labelled
    write("vatex_public_test_english_v1.1.json", [{"videoID": "abc", "enCap": ["One."]}])
    with pytest.raises(DataError, match="expected <youtube id>_<start>_<end>, got 'abc'"):
        load_split(vatex, tmp_path, "test")


HEADER = "video_id,start,end,question,answer1,answer2,answer3,answer4,answer5\n"


def test_ivqa_answers_are_text(write: Write, task: TaskNamed, tmp_path: Path) -> None:
    write("test.csv", HEADER + "Zz,41,58,what is spread?,null,nan,NA,,none\n")
    write("video/Zz.mp4")
    (example,) = load_labelled(task("ivqa"), tmp_path).examples
    assert example.references == ("null", "nan", "NA", "", "none")
    (example,) = load_split(task("ivqa"), tmp_path, "test").examples
    assert example.media == (Video(tmp_path / "video/Zz.mp4", 41.0, 58.0, maybe_cut=True),)
    write("test.csv", HEADER + "Zz,58,41,what?,a,a,a,a,a\nZz,1,2,what?,a,a,a,a,a\n")
    with pytest.raises(DataError) as caught:
        load_split(task("ivqa"), tmp_path, "test")
    assert [(p.line, p.key) for p in caught.value.problems] == [(3, "video_id"), (2, "end")]


def test_youcook2_queries_are_segments(write: Write, task: TaskNamed, tmp_path: Path) -> None:
    steps = [{"segment": [22, 39], "id": 0, "sentence": "slice"}, {"segment": [40, 41.5], "id": 3, "sentence": "fry"}]
    video = {"duration": 90, "subset": "validation", "recipe_type": "104", "annotations": steps}
    write("youcookii_annotations_trainval.json", {"database": {"Qq": video}})
    path = write("raw_videos/validation/104/Qq.webm")
    split = load_split(task("youcook2"), tmp_path, "val")
    assert [(e.id, e.references, e.media[0]) for e in split.examples] == [
        ("Qq_0", ("slice",), Video(path, 22.0, 39.0)),
        ("Qq_3", ("fry",), Video(path, 40.0, 41.5)),
    ]
    with pytest.raises(DataError, match="Expected videos of training, got validation"):
        load_split(task("youcook2"), tmp_path, "train")
    steps[0]["segment"], steps[1]["id"] = [39, 22], 0
    write("youcookii_annotations_trainval.json", {"database": {"Qq": video}})
    with pytest.raises(DataError) as caught:
        load_split(task("youcook2"), tmp_path, "val")
    assert [p.key for p in caught.value.problems] == [
        "database.Qq.annotations[0].segment",
        "database.Qq.annotations[1].id",
    ]


def star(answer: str | None = "Lifted the towel.", id: str = "Sequence_T3_9001") -> dict[str, Any]:
    texts = ["Closed the door.", "Lifted the towel.", "Ate.", "Sat."]
    choices: list[dict[str, Any]] = [{"choice_id": i, "choice": texts[i], "choice_program": []} for i in (2, 1, 3, 0)]
    row = {"question_id": id, "question": "What?", "video_id": "ZZ9X0", "start": 3.1, "end": 11.8, "choices": choices}
    return row | ({"answer": answer, "situations": {}} if answer else {})


def test_star_choices_go_by_choice_id(write: Write, task: TaskNamed, tmp_path: Path) -> None:
    write("STAR_val.json", [star()])
    write("STAR_test.json", [star(answer=None)])
    clip = write("Charades_v1_480/ZZ9X0.mp4")
    (example,) = load_split(task("star"), tmp_path, "val").examples
    assert example.candidates == ("Closed the door.", "Lifted the towel.", "Ate.", "Sat.")
    assert (example.target, example.labels["question_type"]) == (1, "Sequence")
    assert (example.media, "situations" in example.fields) == ((Video(clip, 3.1, 11.8),), False)
    test = load_split(task("star"), tmp_path, "test")
    assert (test.labelled, test.examples[0].target) == (False, None)
    write("STAR_val.json", [star("Flew."), star(id="Other_1")])
    with pytest.raises(DataError) as caught:
        load_split(task("star"), tmp_path, "val")
    assert [p.key for p in caught.value.problems] == ["[0].answer", "[1].question_id"]


OPEN_ENDED = "video,frame_count,width,height,question,answer,qid,type\n"


def test_nextqa_is_known_by_video_and_question(write: Write, task: TaskNamed, tmp_path: Path) -> None:
    write("test.csv", OPEN_ENDED + "0123,812,640,480,why did the girl wave,greet,4,CW\n9,1,1,1,is it,null,4,DB\n")
    write("add_reference_answer_test.json", {"0123": {"4": "say hello"}})
    write("map_vid_vidorID.json", {"0123": "0101/0123"})
    clip = write("NExTVideo/0101/0123.mp4")
    first, second = load_split(task("nextqa"), tmp_path, "test").examples
    assert (first.id, first.media, first.fields) == ("0123_4", (Video(clip),), {"question": "why did the girl wave?"})
    assert first.labels["extra_references"] == ("say hello",)
    assert (second.answer, second.labels["extra_references"], second.labels["question_type"]) == ("null", (), "DB")
    write("add_reference_answer_test.json", {"0123": {"5": "say hello"}})
    with pytest.raises(DataError, match="0123: question 4 of this video has no second reference"):
        load_split(task("nextqa"), tmp_path, "test")


def test_the_multiple_choice_release_of_nextqa_is_refused(write: Write, task: TaskNamed, tmp_path: Path) -> None:
    write("test.csv", "video,question,answer,qid,type,a0,a1,a2,a3,a4\n1,why,2,0,CW,a,b,c,d,e\n")
    with pytest.raises(DataError, match="multiple-choice release"):
        load_split(task("nextqa"), tmp_path, "test")


def test_rareact_has_149_sentences(write: Write, task: TaskNamed, tmp_path: Path) -> None:
    table = classes()
    assert (len(table), len({v for v, _, _ in table}), len({n for _, n, _ in table})) == (149, 21, 45)
    assert len({phrase for _, _, phrase in table}) == 149
    assert table[138] == ("microwave", "watermelon", "microwaves a watermelon")
    write("rareact.csv", "id,video_id,start,end,class_id,verb,noun,annotation\n0,-Mn,63,71,135,fry,phone,3\n")
    whole = write("videos/-Mn.mp4")
    split = load_split(task("rareact"), tmp_path, "test")
    assert split.candidates[135] == "a person fries a phone"
    assert split.candidates[62] == "a person shakes clothes"
    (example,) = split.examples
    assert example.media == (Video(whole, 63.0, 71.0),)
    assert example.labels == {"verb": "fry", "noun": "phone", "annotation": 3, "class_id": 135, "video_id": "-Mn"}
    write("rareact.csv", "id,video_id,start,end,class_id,verb,noun,annotation\n0,-Mn,63,71,135,fry,pen,7\n")
    with pytest.raises(DataError) as caught:
        load_split(task("rareact"), tmp_path, "test")
    assert [p.key for p in caught.value.problems] == ["class_id", "annotation"]


KINETICS = "label,youtube_id,time_start,time_end,split\n"


@pytest.mark.parametrize("folder", ["", "shaking hands/", "shaking_hands/"])
def test_kinetics_labels_are_sorted_over_train_and_val(
    write: Write, task: TaskNamed, tmp_path: Path, folder: str
) -> None:
    write("annotations/train.csv", KINETICS + 'zumba,a,1,11,train\n"a, b (c)",b,1,11,train\n')
    write("annotations/validate.csv", KINETICS + "shaking hands,-aB,14,24,validate\n")
    clip = write(f"val/{folder}-aB_000014_000024.mp4")
    split = load_split(task("kinetics700"), tmp_path, "val")
    assert split.candidates == ("a, b (c)", "shaking hands", "zumba")
    (example,) = split.examples
    assert (example.id, example.target, example.media) == ("-aB_000014_000024", 1, (Video(clip),))
    write("annotations/validate.csv", KINETICS + "shaking hands,-aB,14,24,train\n")
    with pytest.raises(DataError, match=r"line 2, split: this row is of 'train'\. Split 'val' needs val or validate"):
        load_split(task("kinetics700"), tmp_path, "val")
