"""schema.py and files.py: whatever a file holds is a value of its type or a problem with its place."""

from __future__ import annotations

import errno
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import pytest

from flamingo_eval.config.load import load_spec
from flamingo_eval.errors import ConfigError, RunError
from flamingo_eval.files import JsonError, json_lines, json_text, parse_json, read_json, write_atomically
from flamingo_eval.schema import JsonTree, Rules, read, try_read


@dataclass(frozen=True, slots=True)
class Small:
    kind: Literal["small"] = "small"
    size: int = 1


@dataclass(frozen=True, slots=True)
class Large:
    kind: Literal["large"] = field(default="large", metadata={"absent": "large"})
    size: float = 2.0


@dataclass(frozen=True, slots=True)
class Shelf:
    name: str
    colour: Literal["red", "blue"] = "red"
    width: float = 1.0
    boxes: int = 0
    open: bool = False
    labels: tuple[str, ...] = ()
    span: tuple[float, float] | None = None
    counts: Mapping[str, int] = field(default_factory=dict)
    item: Small | Large = field(default_factory=Small)
    extra: Any = None


def problems(value: object, rules: Rules | None = None) -> list[str]:
    return [str(p) for p in try_read(JsonTree(value), Shelf, Path("shelf.json"), rules)[1]]


def test_a_tree_becomes_its_dataclass() -> None:
    value = {
        "name": "a",
        "width": 2,
        "labels": ["x"],
        "span": [0, 1.5],
        "counts": {"b": 3},
        "item": {"kind": "large", "size": 4},
        "extra": {"any": [1, None]},
    }
    shelf = Shelf("a", width=2.0, labels=("x",), span=(0.0, 1.5), counts={"b": 3}, item=Large(size=4.0))
    assert try_read(JsonTree(value), Shelf) == (replace(shelf, extra={"any": [1, None]}), [])
    assert try_read(JsonTree({"name": "a", "item": {"size": 1}}), Shelf)[0] == Shelf("a", item=Large(size=1.0))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"name": ["a"]}, "name: expected a text, got a list."),
        ({"name": None}, "name: expected a text, got null."),
        ({"name": "\ud800"}, "name: contains half a surrogate pair, which is not a character."),
        ({"colour": ["red"]}, "colour: expected one of red, blue, got a list."),
        ({"colour": "bleu"}, "colour: expected one of red, blue, got 'bleu'. Did you mean 'blue'?"),
        ({"width": float("nan")}, "width: expected a finite number, got NaN."),
        ({"boxes": True}, "boxes: expected an integer, got true."),
        ({"boxes": 2**80}, "boxes: expected an integer below 2^63, got one of 25 digits."),
        ({"open": 1}, "open: expected true or false, got 1."),
        ({"labels": "x"}, "labels: expected a list, got 'x'."),
        ({"labels": [{}]}, "labels[0]: expected a text, got keys and values."),
        ({"span": [1]}, "span: expected a list of 2, got 1 items."),
        ({"counts": {"b": "3"}}, "counts.b: expected an integer, got '3'."),
        ({"item": {"kind": ["large"]}}, "item.kind: expected one of small, large, got a list."),
        ({"item": []}, "item: expected keys and values, got a list."),
        ({"extra": {"a": [float("inf")]}}, "extra.a[0]: expected a finite number, got inf."),
        ({"colours": 1}, "file: unknown key 'colours'. Did you mean 'colour'?"),
    ],
)
def test_each_kind_of_problem_has_its_key_and_value(change: dict[str, Any], problem: str) -> None:
    assert problems({"name": "a"} | change) == [problem]


def test_numbers_too_large_and_deep_nesting_are_problems() -> None:
    (problem,) = problems({"name": "a", "width": 10**400})
    assert problem.startswith("width: expected a number below 2^63")
    deep: Any = 0
    for _ in range(100_000):
        deep = [deep]
    assert problems({"name": "a", "extra": deep}) == ["file: nested too deeply."]


def test_all_problems_come_at_once_under_the_files_name() -> None:
    with pytest.raises(RunError, match=r"shelf\.json: 3 problems") as caught:
        read(JsonTree({"colour": 1, "boxes": "2"}), Shelf, Path("shelf.json"), RunError)
    assert [p.key for p in caught.value.problems] == ["colour", "boxes", "file"]


def test_a_complete_file_may_leave_out_only_what_says_what_its_absence_means() -> None:
    value = {n: getattr(Shelf("a"), n) for n in ("name", "colour", "width", "boxes", "open", "span", "counts")}
    value |= {"labels": [], "extra": None, "item": {"size": 3}}
    assert problems(value, Rules(complete=True)) == []
    del value["item"]["size"], value["boxes"]
    assert problems(value, Rules(complete=True)) == ["item: key 'size' is missing.", "file: key 'boxes' is missing."]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("name: a\nwidth: .nan", "line 2, width: expected a finite number, got '.nan'."),
        ("name: a\nwidth: 1e999", "line 2, width: expected a number, got '1e999'."),
        (f"name: a\nwidth: 1{'0' * 400}", "line 2, width: expected a number below 2^63, got one of 401 digits."),
        ("name: [a]", "line 1, name: expected a text, got a list."),
        ("name: a\ncolour: [red]", "line 2, colour: expected one of red, blue, got a list."),
        ("name: a\n? [b]\n: 1", "line 2, file: a key must be one word."),
    ],
)
def test_yaml_is_read_by_the_same_rules_with_its_lines(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "shelf.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_spec(path, Shelf)
    assert problem in [str(p) for p in caught.value.problems]


# ------------------------------------------------------------------------------------------------------------- files.py


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "empty"),
        ('{"a": 1,\n "b": [2', "line 2, column 9: not JSON: truncated"),
        ("nonsense", "line 1, column 1: not JSON: Expecting value"),
        ('{"a": {"b": 1, "b": 2}}', "duplicate key 'b'"),
        ('["\\ud83d"]', "half a surrogate pair"),
        ("[" * 100_000, "nested too deeply"),
        ("9" * 5000, "not JSON that can be read"),
    ],
)
def test_what_breaks_the_rule_for_json_is_named_with_its_place(text: str, what: str) -> None:
    with pytest.raises(JsonError, match=what):
        parse_json(text)


def test_a_bad_line_does_not_hide_the_others() -> None:
    numbers = [(n, isinstance(v, JsonError)) for n, v in json_lines('1\n\n{"a"\n[2]\n')]
    assert numbers == [(1, False), (3, True), (4, False)]


def test_files_that_cannot_be_read_name_themselves(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    with pytest.raises(RunError, match=r"a\.json: there is no such file"):
        read_json(path, RunError)
    path.write_bytes(b'"\xff"')
    with pytest.raises(RunError, match=r"a\.json: not UTF-8 text \(byte 1\)"):
        read_json(path, RunError)
    path.write_text("[1, 2, 3]")
    with pytest.raises(RunError, match=r"9 bytes are too many for this file \(limit 8\)"):
        read_json(path, RunError, limit=8)
    path.write_text("\ufeff[1]")
    assert read_json(path, RunError) == [1]


def test_json_text_reads_back_and_keeps_plain_lists_on_one_line() -> None:
    value = {"a": [1, None, 2.5], "b": [{"c": "é"}, {}], "d": {}, "e": []}
    assert json.loads(json_text(value)) == value
    assert '"a": [1, null, 2.5],\n' in json_text(value)


def test_a_file_is_old_or_new_and_no_temporary_one_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "f"
    write_atomically(path, b"old")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match="No space"):
        write_atomically(path, "new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["f"]
