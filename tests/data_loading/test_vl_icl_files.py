"""VL-ICL's records as released: paths from the root of the clone, and what a shot is in each of its tasks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flamingo_eval.data.layouts import load_split
from flamingo_eval.errors import DataError
from tests.support.fixture_types import TaskNamed, Write

EXPRESSION = "What is the result of the following mathematical expression?"


def test_pictures_lie_below_the_root_of_the_clone(write: Write, task: TaskNamed, tmp_path: Path) -> None:
    row = {"id": "clevr_query_9", "image": ["clevr/query/9.png"], "question": "shape: cube", "answer": 3}
    write("clevr/query.json", [row, {**row, "id": "b", "image": "clevr/query/b.png", "question": "How many?"}])
    write("clevr/support.json", [{**row, "id": "s", "image": ["clevr/support/s.png"]}])
    picture = write("clevr/query/9.png")
    clevr = task("vl_icl_clevr")
    first, second = load_split(clevr, tmp_path, "query").examples
    assert (first.id, first.answer, first.references, first.media[0].path) == ("clevr_query_9", "3", ("3",), picture)
    assert (first.fields["question"], first.labels["attribute"]) == ("shape: cube", "shape")
    assert "attribute" not in second.labels
    assert second.media[0].path.name == "b.png"  # a bare text is one picture
    (inside,) = load_split(clevr, tmp_path / "clevr", "query").examples[:1]
    assert inside.media[0].path.samefile(picture)


def test_an_operator_row_has_an_answer_for_each_operator(write: Write, task: TaskNamed, tmp_path: Path) -> None:
    support = {"id": "s_3_4", "image": ["a.png", "b.png"], "question": EXPRESSION, "answer": [7, -1, 12]}
    query = {"id": "q_6_2_-", "image": ["a.png", "b.png"], "question": EXPRESSION, "answer": 4, "operator": "-"}
    write("operator_induction_interleaved/query.json", [query])
    write("operator_induction_interleaved/support.json", [support])
    spec = task("vl_icl_operator_induction_interleaved")
    (shot,) = load_split(spec, tmp_path, "support").examples
    (example,) = load_split(spec, tmp_path, "query").examples
    assert shot.labels["answers"] == {"+": "7", "-": "-1", "x": "12"}
    assert (example.labels["answer_key"], example.answer, len(example.media)) == ("-", "4", 2)


def test_a_matching_row_is_two_examples_of_one_group(write: Write, task: TaskNamed, tmp_path: Path) -> None:
    def half(id: str, answer: str) -> dict[str, object]:
        return {"id": id, "image": [f"{id}1.jpg", f"{id}2.jpg"], "question": "Do they?", "answer": answer}

    write("matching_mi/query.json", [half("q", "No")])
    write("matching_mi/support.json", [{"same": half("a", "Yes"), "diff": half("b", "No")}])
    same, diff = load_split(task("vl_icl_matching_mi"), tmp_path, "support").examples
    assert (same.answer, diff.answer) == ("Yes", "No")
    assert same.labels["group"] == diff.labels["group"]


def test_a_query_of_open_mi_brings_its_own_shots(write: Write, task: TaskNamed, tmp_path: Path) -> None:
    names = ["dax", "wug"]
    support = {name: {"images": [f"{name}_{i}.jpg" for i in range(3)], "caption": "unused"} for name in names}
    row = {"id": "q1", "image": ["q.jpg"], "question": "This is a", "answer": "wug", "classes": names}
    write("open_mi/query.json", [{**row, "support": support}])
    open_mi = task("vl_icl_open_mi")
    (query,) = load_split(open_mi, tmp_path, "query").examples
    shots = load_split(open_mi, tmp_path, "support").examples
    assert [s.id for s in shots] == [f"q1/{name}/{i}" for name in names for i in range(3)]
    assert {s.labels["pool"] for s in shots} == {query.labels["pool"]} == {"q1"}
    assert {s.fields["question"] for s in shots} == {"This is a"}


@pytest.mark.parametrize(
    ("name", "part", "change", "message"),
    [
        ("clevr", "query", {"answer": [3]}, r"answer: expected a text or an integer, got a list of 1"),
        ("clevr", "query", {"answer": None}, r"answer: expected a text or an integer, got null"),
        ("clevr", "query", {"image": []}, r"image: expected a list of texts"),
        ("operator_induction", "query", {"operator": "/"}, r"operator: expected one of \+ - x, got \"/\""),
        ("operator_induction", "support", {"answer": [1, 2]}, r"expected 3 answers, one per operator"),
        ("matching_mi", "query", {"answer": "maybe"}, r"expected Yes or No, got \"maybe\""),
        ("matching_mi", "support", {}, r"same: is missing"),
        ("open_mi", "query", {"classes": ["a"]}, r"'3' is not one of the query's classes"),
        ("open_mi", "support", {"classes": ["a"]}, r"support: is missing"),
        ("open_mi", "support", {"classes": ["a"], "support": {"b": {}}}, r"support\.a: is missing"),
    ],
)
def test_what_is_wrong_with_a_record_is_named(
    write: Write, task: TaskNamed, tmp_path: Path, name: str, part: str, change: dict[str, Any], message: str
) -> None:
    row = {"id": "1", "image": ["1.png"], "question": "shape: cube", "answer": "3"}
    write(f"{name}/query.json", [{**row, **change}])
    write(f"{name}/support.json", [{**row, **change}])
    with pytest.raises(DataError, match=message):
        load_split(task(f"vl_icl_{name}"), tmp_path, part)
