"""The browser's values: prompts as the runs showed them, answers, references, reasons where something is missing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from flamingo_eval.config.specs import DemoSpec
from flamingo_eval.prompting import episodes
from flamingo_eval.prompting.support import draw_support
from flamingo_eval.records import END_OF_CHUNK, Image, Prompt
from flamingo_eval.report.browser import Browser, cards_of, chosen_ids
from flamingo_eval.report.recorded_prompts import read_runs
from flamingo_eval.report.thumbnails import PictureBook
from flamingo_eval.runs.folder import RunFolder

A, B = Image("a.jpg"), Image("b.jpg")


def value(folders: list[RunFolder], data: str | None, limit: int = 60) -> tuple[dict[str, Any], Browser]:
    browser = Browser(PictureBook(32, 100))
    return browser.value(read_runs(folders), limit, data), browser


def test_cards_begin_at_pictures_and_end_with_chunks() -> None:
    prompt = Prompt(["Look. ", A, "Output: a cat", END_OF_CHUNK, "\n", B, "Output:"])
    assert cards_of(prompt) == [
        ((), "Look. ", False),
        ((A,), "Output: a cat\n", True),
        ((B,), "Output:", False),
    ]


def test_text_only_demonstrations_are_cards_of_their_own() -> None:
    prompt = Prompt(["Output: x", END_OF_CHUNK, "Output: y", END_OF_CHUNK, A, "Output:"])
    assert [(m, t) for m, t, _ in cards_of(prompt)] == [((), "Output: x"), ((), "Output: y"), ((A,), "Output:")]


def test_several_pictures_of_one_example_share_a_card() -> None:
    assert cards_of(Prompt([A, B, "Output:"])) == [((A, B), "Output:", False)]


def test_prompts_are_those_of_the_run(make_run: Any, vqa_root: Path) -> None:
    folder = make_run("red", shots=4)
    page, _ = value([folder], str(vqa_root))
    (task,) = page["tasks"]
    (run,) = task["runs"]
    answer = run["answers"][0]
    cards = [page["cards"][i] for i in answer["prompt"]]
    assert len(cards) == 5
    texts = [page["texts"][text] for _, text, _ in cards]
    assert texts[-1] == "Question: What colour is square 0? Answer:"
    recorded = json.loads(folder.outputs.read_text().splitlines()[0])["shots"]
    for text, id in zip(texts[:-1], recorded, strict=True):
        assert text.startswith(f"Question: What colour is wall {int(id) - 900}? Answer: ")
    assert [closed for _, _, closed in cards] == [1, 1, 1, 1, 0]
    assert all(page["pictures"][p]["uri"] for pictures, _, _ in cards for p in pictures)
    assert (answer["answer"], answer["ok"], answer["score"]) == ("red", True, 100.0)
    assert task["queries"][0]["references"] == [["red", 10]]
    assert task["types"][:2] == ["answer_type: number", "answer_type: other"]


def test_zero_shots_show_text_only_demonstrations(make_run: Any, vqa_root: Path) -> None:
    page, _ = value([make_run("red", shots=0)], str(vqa_root))
    run = page["tasks"][0]["runs"][0]
    cards = [page["cards"][i] for i in run["answers"][0]["prompt"]]
    assert [len(pictures) for pictures, _, _ in cards] == [0, 0, 1]
    assert run["text_only"] == 2


@pytest.mark.parametrize("ablation", ["labels-shuffled", "order-reversed", "query-images-shuffled", "images-blank"])
def test_ablated_prompts_are_rendered_again_as_they_were(make_run: Any, vqa_root: Path, ablation: str) -> None:
    prompts: dict[str, Prompt] = {}

    def say(prompt: Prompt) -> str:
        prompts[prompt.id] = prompt
        return "red"

    page, _ = value([make_run(say, shots=4, ablation=ablation)], str(vqa_root))
    (task,) = page["tasks"]
    for query, answer in zip(task["queries"], task["runs"][0]["answers"], strict=True):
        cards = [page["cards"][i] for i in answer["prompt"]]
        expected = cards_of(prompts[query["id"]])
        assert [page["texts"][t] for _, t, _ in cards] == [t for _, t, _ in expected]
        names = [page["pictures"][p]["about"] for pictures, _, _ in cards for p in pictures]
        assert names == [m.path.name for media, _, _ in expected for m in media]


def test_references_that_an_ablation_changed_are_those_of_the_answer(make_run: Any, vqa_root: Path) -> None:
    plain, permuted = make_run("red", shots=4), make_run("red", shots=4, ablation="labels-permuted")
    page, _ = value([plain, permuted], str(vqa_root))
    (task,) = page["tasks"]
    first, second = task["runs"]
    assert not any("references" in answer for answer in first["answers"])
    changed = [a["references"][0][0] if "references" in a else None for a in second["answers"]]
    given = [query["references"][0][0] for query in task["queries"]]
    assert any(changed)
    for old, new, answer in zip(given, changed, second["answers"], strict=True):
        assert new != old
        assert answer["ok"] == ((new or old) == "red")


def test_shots_that_a_model_chose_come_from_the_record(make_run: Any, vqa_root: Path) -> None:
    folder = make_run("red", shots=4)
    record = json.loads(folder.run.read_text())
    record["spec"]["demos"]["method"] = "rices"
    folder.run.write_text(json.dumps(record))
    lines = [json.loads(line) for line in folder.outputs.read_text().splitlines()]
    for line in lines:
        line["shots"] = ["900", "905"]
    folder.outputs.write_text("".join(json.dumps(line) + "\n" for line in lines))
    page, _ = value([folder], str(vqa_root))
    cards = [page["cards"][i] for i in page["tasks"][0]["runs"][0]["answers"][0]["prompt"]]
    assert [page["texts"][t].split("?")[0][-1] for _, t, _ in cards] == ["0", "5", "0"]


def test_without_the_data_answers_stand_alone_and_say_why(make_run: Any) -> None:
    page, browser = value([make_run("red")], None)
    (task,) = page["tasks"]
    assert task["runs"][0]["answers"][0]["answer"] == "red"
    assert "prompt" not in task["runs"][0]["answers"][0]
    assert task["why"] == "prompts and pictures need the data: --data DIR with 'vqa'"
    assert browser.notes == ["vqav2: prompts and pictures need the data: --data DIR with 'vqa'"]


def test_data_of_another_digest_is_not_shown(make_run: Any, vqa_root: Path) -> None:
    folder = make_run("red")
    record = json.loads(folder.run.read_text())
    name = next(k for k in record["inputs"] if "val" in k)
    record["inputs"][name] = "0" * 64
    folder.run.write_text(json.dumps(record))
    page, _ = value([folder], str(vqa_root))
    assert page["tasks"][0]["why"] == f"the data differs from that of the run: {name}"


def test_shots_other_than_the_recorded_ones_are_not_passed_off(make_run: Any, vqa_root: Path) -> None:
    folder = make_run("red", shots=4)
    folder.outputs.write_text(folder.outputs.read_text().replace('"shots": ["9', '"shots": ["8'))
    page, _ = value([folder], str(vqa_root))
    assert page["tasks"][0]["runs"][0]["answers"][0]["prompt"] == "the shots differ from those in the record"


def test_no_machine_path_reaches_the_page(make_run: Any, vqa_root: Path, tmp_path: Path) -> None:
    page, _ = value([make_run("red", shots=4)], str(vqa_root))
    other, _ = value([make_run("red", shots=4)], str(tmp_path))
    for text in (json.dumps(page), json.dumps(other)):
        assert str(vqa_root) not in text
        assert str(tmp_path) not in text


def test_the_same_queries_for_all_runs_of_a_task(make_run: Any) -> None:
    runs = read_runs([make_run("red", shots=k) for k in (0, 4)] + [make_run("red", shots=8, limit=6)])
    ids = chosen_ids(runs, 4, "vqav2")
    assert len(ids) == 4
    assert all(set(ids) <= set(r.outputs) for r in runs)
    assert chosen_ids(runs[::-1], 4, "vqav2") == ids or set(chosen_ids(runs[::-1], 4, "vqav2")) == set(ids)
    assert set(chosen_ids(runs, 3, "vqav2")) < set(ids)


def test_failed_queries_are_shown_as_such(make_run: Any) -> None:
    folder = make_run("red")
    lines = folder.outputs.read_text().splitlines()
    first = json.loads(lines[0]) | {"error": "a.jpg: cut"}
    del first["prediction"], first["raw"], first["score"]
    folder.outputs.write_text("\n".join([json.dumps(first), *lines[1:]]) + "\n")
    page, _ = value([folder], None)
    answer = page["tasks"][0]["runs"][0]["answers"][0]
    assert answer == {"tokens": 10, "error": "a.jpg: cut"}


def test_candidates_are_ranked_with_the_right_one_among_them() -> None:
    browser = Browser(PictureBook(32, 1))
    names = [f"class {i}" for i in range(9)]
    answer, top = browser._ranking((-9.0, -1.0, -2.0, -3.0, -4.0, -5.0, -6.0, float("-inf"), -8.0), names, 8)
    assert answer == "class 1"
    assert [(browser.texts.items[t], score, rank, right) for t, score, rank, right in top] == [
        ("class 1", -1.0, 1, False),
        ("class 2", -2.0, 2, False),
        ("class 3", -3.0, 3, False),
        ("class 4", -4.0, 4, False),
        ("class 5", -5.0, 5, False),
        ("class 8", -8.0, 7, True),
    ]


def test_the_support_set_of_a_seed_is_drawn_once(
    make_run: Any, vqa_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = [make_run("red", shots=k, demos=DemoSpec(shots=k)) for k in (0, 4, 8)]
    drawn = Mock(wraps=draw_support)
    monkeypatch.setattr(episodes, "draw_support", drawn)
    value(folders, str(vqa_root))
    assert drawn.call_count == 1
