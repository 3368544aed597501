from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from flamingo_eval.data import json_records
from flamingo_eval.data.annotation_files import read_json, read_list, read_object
from flamingo_eval.data.annotations import ProblemLog
from flamingo_eval.data.json_records import JsonRecords, any_has, object_entries, stream_json
from flamingo_eval.errors import DataError
from tests.support.fixture_types import Write

VALUES: tuple[Any, ...] = (
    {
        "info": {"a": [1, {}]},
        "rows": [{"id": 1, "text": "caf\u00e9 \U0001f600"}, {}, {"n": -1.25e10}],
        "end": None,
    },
    {"data": {"texts": ["a", "b"], "rows": [{"id": 1}], "n": 12345.5}, "split": "val"},
    [{"id": 1}, {"id": 2, "inner": {"list": [[], [1.5e-3, True]]}}],
    {"rows": []},
    [],
    {},
    "a text",
    1.25,
)


def rebuilt(path: Path, list_path: tuple[str, ...]) -> object:
    """The value of a file, put together again from its parts."""
    whole: Any = None
    for keys, index, value in stream_json(path, list_path):
        if not keys and index is None:
            whole = value
            continue
        place = whole
        for key in keys[:-1] if index is None else keys:
            place = place[key]
        if index is None:
            place[keys[-1]] = value
        else:
            assert index == len(place)
            place.append(value)
    return whole


@pytest.mark.parametrize("window", [1, 2, 3, 7, 64, 2**20])
@pytest.mark.parametrize("indent", [None, 1])
def test_the_parts_of_a_file_are_the_whole_whatever_the_window(
    write: Write, monkeypatch: pytest.MonkeyPatch, window: int, indent: int | None
) -> None:
    monkeypatch.setattr(json_records, "WINDOW", window)
    for n, value in enumerate(VALUES):
        path = write(f"{n}.json", json.dumps(value, indent=indent, ensure_ascii=n % 2 == 0))
        for list_path in ((), ("rows",), ("data", "rows"), ("nothing", "here")):
            assert rebuilt(path, list_path) == value


@pytest.mark.parametrize("window", [1, 16, 2**20])
@pytest.mark.parametrize(
    "text",
    [
        '{"rows": [{"id": 1},\n {"id": 2',
        '{"rows": [{"id": 1},\n',
        '{"rows": [{"id": 1} {"id": 2}]}',
        '{"rows": [{"id": 1}], "x"}',
        '{"rows": [{"id": 1}], "x": 1.}',
        '{"rows": [{"id": 1}]} more',
        '{"rows": [{"id": 1, "id": 2}]}',
        '{"rows": [{"id": 1}], "rows": [{"id": 2}]}',
        '{"rows": [{"id": "\\ud800"}]}',
        '{"rows": [{"id": 1}], 2: 3}',
        b'{"rows": [{"id": "caf\xe9"}]}',
        '[{"id": 1},]',
        "<!doctype html><html></html>",
        "[" * 100_000,
        "",
    ],
)
def test_what_breaks_a_file_is_said_as_by_the_reader_of_whole_files(
    write: Write, monkeypatch: pytest.MonkeyPatch, text: str | bytes, window: int
) -> None:
    monkeypatch.setattr(json_records, "WINDOW", window)
    path = write("broken.json", text)
    with pytest.raises(DataError) as whole:
        read_json(path)
    with pytest.raises(DataError) as streamed:
        list(JsonRecords(path, ProblemLog(), "rows"))
    assert str(streamed.value) == str(whole.value)


def test_the_same_value_twice_under_a_key_is_no_problem(write: Write) -> None:
    path = write("twice.json", '{"rows": [{"id": 1}], "n": 2, "n": 2, "rows": [{"id": 1}]}')
    records = JsonRecords(path, ProblemLog(), "rows")
    assert [record.values for record in records] == [{"id": 1}]
    assert records.rest.values == {"rows": [], "n": 2}


def test_records_know_their_place_and_the_rest_of_the_file_is_there_after_them(write: Write) -> None:
    path = write("rows.json", {"split": "val", "data": {"rows": [{"id": 1}, 5, {"id": 2}], "texts": ["a"]}, "n": 3})
    log = ProblemLog()
    records = JsonRecords(path, log, "data.rows")
    assert [(record.place, record.id("id")) for record in records] == [("data.rows[0]", "1"), ("data.rows[2]", "2")]
    assert records.rest.values == {"split": "val", "data": {"rows": [], "texts": ["a"]}, "n": 3}
    assert [str(p) for p in log.problems] == ["data.rows[1]: expected an object, got 5."]


@pytest.mark.parametrize("value", [{"questoins": [{"id": 1}]}, {"rows": {"id": 1}}, {"rows": None}])
def test_a_list_that_is_missing_is_a_problem_as_with_whole_files(write: Write, value: object) -> None:
    path = write("rows.json", json.dumps(value))
    whole, streamed = ProblemLog(), ProblemLog()
    read_object(path, whole).records("rows")
    assert list(JsonRecords(path, streamed, "rows")) == []
    assert streamed.problems == whole.problems
    assert streamed.problems


@pytest.mark.parametrize("value", [{"a": 1}, {}, 5, "text"])
def test_a_file_of_another_kind_is_named_as_with_whole_files(write: Write, value: object) -> None:
    path = write("rows.json", json.dumps(value))
    with pytest.raises(DataError) as whole:
        read_list(path, ProblemLog())
    with pytest.raises(DataError) as streamed:
        list(JsonRecords(path, ProblemLog()))
    assert str(streamed.value) == str(whole.value)
    path = write("list.json", "[1]")
    for entries in (JsonRecords(path, ProblemLog(), "rows"), object_entries(path, ProblemLog())):
        with pytest.raises(DataError, match=r"list.json: expected an object at the top, got a list of 1"):
            list(entries)


def test_whether_any_record_has_a_key_is_known_at_the_first_that_has_it(write: Write) -> None:
    taken: list[int] = []
    path = write("rows.json", [{"id": n} | ({"answer": "a"} if n == 2 else {}) for n in range(5)])

    def counted() -> Any:
        for record in JsonRecords(path, ProblemLog()):
            taken.append(record.integer("id"))
            yield record

    has, records = any_has("answer", counted())
    assert (has, taken) == (True, [0, 1, 2])
    assert [record.id("id") for record in records] == ["0", "1", "2", "3", "4"]
    has, records = any_has("image", counted())
    assert (has, len(list(records))) == (False, 5)


@pytest.mark.slow
def test_memory_is_that_of_a_window_and_not_of_the_file(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_records, "WINDOW", 2**14)
    rows = ",".join(json.dumps({"id": n, "votes": [{"answer": "yes", "n": k} for k in range(10)]}) for n in range(5000))
    path = write("rows.json", f'{{"rows": [{rows}]}}')
    tracemalloc.start()
    try:
        assert sum(1 for _ in JsonRecords(path, ProblemLog(), "rows")) == 5000
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < path.stat().st_size / 4


@pytest.mark.parametrize("order", [("images", "rows"), ("rows", "images")])
def test_a_list_that_is_passed_over_is_neither_read_as_records_nor_kept(write: Write, order: tuple[str, str]) -> None:
    value: dict[str, Any] = {order[0]: [{"id": 1}, {"id": 2}], "info": 5, order[1]: [{"id": 3}, 4]}
    file = JsonRecords(write("rows.json", value), ProblemLog(), "rows", passed_over="images")
    assert [record.values for record in file] == [v for v in value["rows"] if isinstance(v, dict)]
    assert file.rest.values == {"images": [], "rows": [], "info": 5}


def test_the_entries_of_an_inner_object_come_one_by_one(write: Write) -> None:
    path = write("rows.json", {"version": 1, "database": {"a": {"n": [1, 2]}, "b": 5}, "end": {}})
    assert list(object_entries(path, ProblemLog(), "database")) == [("a", {"n": [1, 2]}), ("b", 5)]


@pytest.mark.parametrize("value", [{"databse": {}}, {"database": [1]}, {"database": None}])
def test_an_inner_object_that_is_missing_is_a_problem(write: Write, value: object) -> None:
    log = ProblemLog()
    assert list(object_entries(write("rows.json", value), log, "database")) == []
    (problem,) = log.problems
    assert (problem.key, problem.what) == ("database", "expected an object.")
