from __future__ import annotations

import gzip

import pytest

from flamingo_eval.data.annotation_files import read_csv, read_json, read_json_lines, read_list
from flamingo_eval.data.annotations import ProblemLog, unique
from flamingo_eval.errors import DataError
from tests.support.fixture_types import Write


def test_a_cut_json_file_is_told_from_one_that_is_no_json(write: Write) -> None:
    cut = write("cut.json", '{"questions": [{"image_id": 1,\n "question": "what is')
    with pytest.raises(DataError, match=r"cut.json: line 2, column 14: not JSON: truncated, the file ends"):
        read_json(cut)
    cut = write("cut2.json", '{"questions": [{"image_id": 1},')
    with pytest.raises(DataError, match="ends in the middle"):
        read_json(cut)
    with pytest.raises(DataError, match=r"words.json: line 1, column 1: not JSON: Expecting value"):
        read_json(write("words.json", "not found, try again"))
    with pytest.raises(DataError, match=r"html.json: a web page, not the file itself"):
        read_json(write("html.json", "<!doctype html><html>not found</html>"))
    with pytest.raises(DataError, match="the file is empty"):
        read_json(write("empty.json", "  \n"))
    with pytest.raises(DataError, match="not UTF-8 text"):
        read_json(write("latin.json", b'{"a": "caf\xe9"}'))
    with pytest.raises(DataError, match=r"packed\.json: compressed with gzip\.\nUnpack it first: gunzip\."):
        read_json(write("packed.json", gzip.compress(b'{"a": 1}')))
    with pytest.raises(DataError, match="nested too deeply"):
        read_json(write("deep.json", "[" * 100_000))


def test_every_bad_line_of_a_json_lines_file_is_a_problem(write: Write) -> None:
    log = ProblemLog()
    rows = read_json_lines(write("a.jsonl", '{"id": 1}\n\n{"id": \n[1]\n{"id": 5}'), log)
    assert [row.line for row in rows] == [1, 5]
    assert [(p.line, p.what) for p in log.problems] == [
        (3, "not JSON: truncated, the line ends in the middle of a value (7 characters)."),
        (4, "expected an object, got a list of 1."),
    ]


def test_csv_cells_are_text_and_never_missing_values(write: Write) -> None:
    path = write("a.csv", '\ufeffid,answer\r\n1,null\r\n2,NA\r\n3,\r\n4,"two\nlines, one comma"\r\n5,a\u2028b\r\n')
    rows = read_csv(path, ["id", "answer"], ProblemLog())
    assert [row.text("answer") for row in rows] == ["null", "NA", "", "two\nlines, one comma", "a\u2028b"]
    assert [row.line for row in rows] == [2, 3, 4, 6, 7]


def test_a_renamed_csv_column_is_named_with_what_was_found(write: Write) -> None:
    path = write("test.csv", "video,question,answr\n1,what,boat\n")
    with pytest.raises(DataError) as caught:
        read_csv(path, ["video", "question", "answer", "type"], ProblemLog())
    text = str(caught.value)
    assert "column 'answer' is missing. Is it 'answr'?" in text
    assert "column 'type' is missing." in text
    assert "Columns found: video, question, answr." in text


def test_two_columns_of_one_name_must_agree(write: Write) -> None:
    same = read_csv(write("same.csv", "id,answer,answer,,\n1,a,a,x,y\n"), ["answer"], ProblemLog())
    assert same[0].text("answer") == "a"
    with pytest.raises(DataError, match=r"line 3: two columns 'answer', with different cells\.\nKeep one of them"):
        read_csv(write("other.csv", "id,answer,answer\n1,a,a\n2,a,b\n"), ["answer"], ProblemLog())


def test_a_row_with_too_few_cells_is_a_problem_with_its_line(write: Write) -> None:
    log = ProblemLog()
    rows = read_csv(write("a.csv", "id,answer\n1,a\n2\n3,b,c\n"), ["id"], log)
    assert [row.id("id") for row in rows] == ["1"]
    assert [(p.line, p.what) for p in log.problems] == [
        (3, "1 cells, the header has 2."),
        (4, "3 cells, the header has 2."),
    ]


def test_readers_of_a_record_log_and_go_on(write: Write) -> None:
    log = ProblemLog()
    path = write(
        "a.json", [{"id": True, "text": 5, "answer": "  ", "number": "x", "list": ["a", 1], "null": None, "imageid": 2}]
    )
    (record,) = read_list(path, log)
    assert (record.id("id"), record.text("text"), record.number("number"), record.texts("list")) == ("", "", 0.0, ())
    record.filled("answer")
    record.integer("null")
    record.text("image_id")
    with pytest.raises(DataError) as caught:
        log.raise_if_any("title")
    lines = str(caught.value).splitlines()
    assert lines[0] == f"{path}: 7 problems"
    assert lines[1:] == [
        "  [0].id: expected an id (number or text), got true.",
        "  [0].text: expected a text, got 5.",
        '  [0].number: expected a number, got "x".',
        "  [0].list: expected a list of texts, got a list of 2.",
        "  [0].answer: is empty.",
        "  [0].null: is null.",
        "  [0].image_id: is missing. Is it 'imageid'?",
    ]


def test_a_duplicated_id_names_both_places(write: Write) -> None:
    log = ProblemLog()
    records = read_list(write("a.json", [{"id": 7}, {"id": 8}, {"id": 7}]), log)
    assert list(unique([(r.id("id"), r) for r in records], "id")) == ["7", "8"]
    assert [str(p) for p in log.problems] == ["[2].id: duplicate id 7; first at [0]. Remove one of them."]
