"""Benchmarks whose queries have their own demonstrations: SMMILE, ISEKAI, and TrueMICL's records, on invented data."""

from __future__ import annotations

import io
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image as PillowImage

from flamingo_eval.data.check import check_task
from flamingo_eval.data.layouts import load_split
from flamingo_eval.errors import DataError
from flamingo_eval.records import Image
from tests.support.fixture_types import TaskNamed, Write


def smmile_row(problem: str, order: int, answer: str, **others: object) -> dict[str, object]:
    row = {"problem_id": problem, "order": order, "image": f"{problem}{order}.png", "image_url": None}
    return {**row, "question": f"Question {order}?", "answer": answer, "specialty": "radiology", **others}


def test_the_last_row_of_a_problem_is_the_query_and_the_others_its_demonstrations_by_order(
    write: Write, task: TaskNamed, tmp_path: Path
) -> None:
    rows = [smmile_row("b", 10, "no"), smmile_row("a", 1, "no"), smmile_row("b", 9, "yes"), smmile_row("b", 2, "no")]
    write("train.jsonl", rows)
    smmile = task("smmile")
    b, a = load_split(smmile, tmp_path, "query").examples
    assert (b.id, b.answer, b.fields["question"]) == ("b", "no", "Question 10?")
    assert b.labels["demonstrations"] == ("b/2", "b/9")
    assert (a.id, a.labels["demonstrations"]) == ("a", ())
    shots = load_split(smmile, tmp_path, "support").examples
    assert [(s.id, s.answer, s.labels["pool"]) for s in shots] == [("b/2", "no", "b"), ("b/9", "yes", "b")]


def test_options_are_the_problems_different_answers_by_first_appearance_in_a_drawn_order_of_lines(
    write: Write, task: TaskNamed, tmp_path: Path
) -> None:
    answers = ["Yes", "no", "Yes", "unsure", "Not shown"]
    write("train.jsonl", [smmile_row(p, n, answer) for p in "abcdefgh" for n, answer in enumerate(answers)])
    queries = load_split(task("smmile_mcqa"), tmp_path, "query").examples
    lines = ["A. Yes", "B. no", "C. unsure", "D. Not shown"]
    for query in queries:
        assert query.candidates == ("Yes", "no", "unsure", "Not shown")
        assert query.target == 3
        assert sorted(str(query.fields["options"]).split("\n")) == lines
    assert len({query.fields["options"] for query in queries}) > 1
    assert queries == load_split(task("smmile_mcqa"), tmp_path, "query").examples
    shots = load_split(task("smmile_mcqa"), tmp_path, "support").examples
    assert {(s.candidates, s.target) for s in shots if s.answer == "no"} == {(queries[0].candidates, 1)}
    assert not load_split(task("smmile"), tmp_path, "query").examples[0].candidates


def test_the_hubs_table_is_read_and_a_row_without_a_picture_is_looked_for_by_its_address(
    write: Write, task: TaskNamed, tmp_path: Path
) -> None:
    picture = io.BytesIO()
    PillowImage.new("RGB", (4, 4), "red").save(picture, "PNG")
    cells = [{"bytes": picture.getvalue(), "path": "x.png"}, {"bytes": None, "path": None}]
    rows = [smmile_row("7", n, "yes", image=cell) for n, cell in enumerate(cells)]
    rows[1]["image_url"] = "https://example.org/a/second%20one.jpg?size=2"
    folder = tmp_path / "data"
    folder.mkdir()
    pq.write_table(pa.Table.from_pylist(rows), folder / "train-00000-of-00001.parquet")
    write("images/second one.jpg", picture.getvalue())
    smmile = task("smmile")
    (query,) = load_split(smmile, tmp_path, "query").examples
    (shot,) = load_split(smmile, tmp_path, "support").examples
    assert query.media == (Image(tmp_path / "images" / "second one.jpg"),)
    assert shot.media == (Image(folder / "train-00000-of-00001.parquet", "image", 0),)
    report = check_task(smmile, tmp_path)
    assert [str(p) for p in report.problems if "official" not in str(p)] == []


def test_permutations_of_one_picture_are_one_picture_for_the_intervals(
    write: Write, task: TaskNamed, tmp_path: Path
) -> None:
    address = {"image_url": "https://example.org/q.jpg"}
    write("train.jsonl", [smmile_row(p, 1, "yes", **address) for p in ("1_0", "1_1")])
    first, second = load_split(task("smmile_plusplus"), tmp_path, "query").examples
    assert first.media_id == second.media_id
    assert first.id != second.id


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"order": 1}, "problem a: duplicate order 1"),
        ({"answer": None}, "answer: is null"),
        ({"image": None}, "neither a picture nor the address of one"),
        ({"order": "last"}, "expected an integer, got"),
        ({"problem_id": None}, "problem_id: is null"),
    ],
)
def test_what_is_wrong_with_a_row_is_named(
    change: dict[str, object], message: str, write: Write, task: TaskNamed, tmp_path: Path
) -> None:
    write("train.jsonl", [smmile_row("a", 1, "no"), {**smmile_row("a", 2, "yes"), **change}])
    with pytest.raises(DataError, match=r"train\.jsonl") as error:
        load_split(task("smmile"), tmp_path, "query")
    assert message in str(error.value)


def isekai_line(image: str, **others: object) -> dict[str, object]:
    return {
        "image_name": image,
        "positive_list": [f"p{n}.jpg" for n in range(11)],
        "negative_list": ["n0.jpg", "n1.jpg"],
        "positive_promt": 'there is "Red Octopus" in the image.',
        "negative_promt": "octopus",
        "label_name": "Red Octopus",
        **others,
    }


def test_an_isekai_line_is_a_query_with_two_lists(write: Write, task: TaskNamed, tmp_path: Path) -> None:
    write("anything.jsonl", [isekai_line("q.jpg"), isekai_line("q.jpg", label_name='"Octopus"')])
    isekai = task("isekai_10")
    first, second = load_split(isekai, tmp_path, "query").examples
    assert (first.id, first.answer, first.labels["other_name"]) == ("q.jpg", "Red Octopus", "octopus")
    assert (second.id, second.answer, second.labels["other_name"]) == ("q.jpg#2", "octopus", "Red Octopus")
    shots = load_split(isekai, tmp_path, "support").examples
    assert [s.id for s in shots if s.labels["pool"] == "q.jpg"][9:12] == [
        "q.jpg/positive/09", "q.jpg/positive/10", "q.jpg/negative/0",
    ]  # fmt: skip
    write("more.jsonl", [isekai_line("other.jpg")])
    assert len(load_split(isekai, tmp_path, "query").examples) == 3
    for path in tmp_path.glob("*.jsonl"):
        path.unlink()
    write("ISEKAI-10.json", [isekai_line("listed.jpg")])
    assert [e.id for e in load_split(isekai, tmp_path, "query").examples] == ["listed.jpg"]


def test_what_is_wrong_with_an_isekai_line_is_named(write: Write, task: TaskNamed, tmp_path: Path) -> None:
    lines = [isekai_line("a.jpg", positive_list=[]), isekai_line("b.jpg", negative_promt="red octopus")]
    write("ISEKAI-10.jsonl", lines)
    with pytest.raises(DataError, match="line 2, negative_promt: both lists have the name"):
        load_split(task("isekai_10"), tmp_path, "query")
    with pytest.raises(DataError, match="line 1, positive_list: expected a list of texts"):
        load_split(task("isekai_10"), tmp_path, "support")


def test_true_micl_has_signed_answers_and_support_rows_of_one_operator_or_of_three(
    write: Write, task: TaskNamed, tmp_path: Path
) -> None:
    question = "What is the result of the following mathematical expression?"
    row = {"id": "operator_induction_query_4_9_-", "image": ["operator_induction/img/4_9.png"], "question": question}
    write("operator_induction/query.json", [{**row, "answer": -5, "operator": "-"}])
    support = [
        {**row, "id": "one", "answer": -1, "operator": "-"},
        {**row, "id": "three", "answer": [7, -1, 12]},
        {**row, "id": "none", "answer": "text"},
    ]
    write("operator_induction/support.json", support)
    picture = write("operator_induction/img/4_9.png")
    spec = task("truemicl_operator_induction")
    (query,) = load_split(spec, tmp_path, "query").examples
    assert (query.references, query.labels["answer_key"]) == (("-5",), "-")
    assert query.media == (Image(picture),)
    one, three, none = load_split(spec, tmp_path, "support").examples
    assert one.labels["answers"] == {"-": "-1"}
    assert three.labels["answers"] == {"+": "7", "-": "-1", "x": "12"}
    assert (none.answer, dict(none.labels)) == ("text", {})
    write("operator_induction/support.json", [{**row, "id": "two", "answer": [7, -1]}, {**row, "id": "two"}])
    with pytest.raises(DataError, match="2 problems"):
        load_split(spec, tmp_path, "support")


@pytest.mark.parametrize("folder", ["clock", "clock_math", "Clock", "analog_clock_hands"])
@pytest.mark.parametrize("root", [".", "the folder itself"])
def test_a_true_micl_folder_whose_name_is_not_known_is_found_by_a_word_or_given_itself(
    write: Write, task: TaskNamed, tmp_path: Path, folder: str, root: str
) -> None:
    row = {"image": [f"{folder}/img/1.png"], "question": "What is the result?", "answer": 7}
    write(f"{folder}/query.json", [{**row, "id": "q"}])
    write(f"{folder}/support.json", [{**row, "id": "s", "answer": "-7"}])
    picture = write(f"{folder}/img/1.png")
    data = tmp_path if root == "." else tmp_path / folder
    (query,) = load_split(task("truemicl_clock"), data, "query").examples
    (shot,) = load_split(task("truemicl_clock"), data, "support").examples
    assert (query.references, shot.answer) == (("7",), "-7")
    assert query.media[0].path.resolve() == picture.resolve()
    if root == ".":
        with pytest.raises(DataError, match=r"no annotations file: tried palindrome/query\.json"):
            load_split(task("truemicl_palindrome"), data, "query")
