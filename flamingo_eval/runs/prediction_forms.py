"""A file of predictions from any program -> rows of keys and values, and the name of its form.

    JSON lines      one object a line: ours, a run's outputs.jsonl, per-sample logs of the two big harnesses
    JSON list       the results lists of evaluation servers (VQA, COCO, GQA, VizWiz, VisDial)
    JSON object     id to answer; lists by question type (STAR's server); a list under `results`, `logs`, ...
    table           CSV, or separated by tabs or semicolons

predictions.py interprets the rows. UTF-8 or UTF-16, with or without a byte order mark.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flamingo_eval.errors import PredictionError, Problem, problems_in
from flamingo_eval.files import JsonError, json_lines, named_cells, not_text, parse_json

LISTS = ("results", "predictions", "answers", "annotations", "logs", "samples", "outputs", "data")
MAP_ID, MAP_ANSWER = "id", "prediction"  # the keys of rows from an object of ids and answers
MARKS = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))
SEPARATORS = ",\t;"


@dataclass(frozen=True, slots=True)
class Row:
    """One entry of the file: its keys and values, and its place."""

    values: Mapping[str, Any]
    line: int | None = None  # in files of lines
    entry: str = ""  # in files of one JSON value

    def problem(self, what: str, path: Path, fix: str = "") -> Problem:
        """A problem with this row."""
        return Problem(what, path, self.line, self.entry, fix)


@dataclass(frozen=True, slots=True)
class Rows:
    """All entries of a file."""

    form: str
    rows: tuple[Row, ...]
    is_map: bool = False  # the keys of its rows are ours


def read_rows(path: Path, example: str) -> Rows:
    """The file's entries, in order. `example` is a line of our own form, for messages.

    Raises PredictionError for a file that cannot be read, is empty or has an unknown form; names every broken line.
    """
    text = _text(path)
    if not text.strip():
        raise PredictionError(
            f"--predictions {path}: the file is empty.", fix=f"Expected one line per query: {example}"
        )
    start = text.lstrip()[0]
    if start not in "[{":
        table = _table(text, path)
        return table if table is not None else _lines(text, path, example)
    try:
        value: Any = parse_json(text)
    except JsonError as error:
        lines = [line.strip() for line in text.split("\n") if line.strip()]
        if len(lines[0]) > 1 and not (start == "[" and text.rstrip().endswith("]")):
            return _lines(text, path, example)
        raise problems_in(path, [Problem(f"{error}.", path, fix=error.fix)], PredictionError) from error
    if not value:
        what = f"the {'list' if isinstance(value, list) else 'object'} is empty."
        raise problems_in(path, [Problem(what, path, fix=f"Expected one entry per query: {example}")], PredictionError)
    return _whole(value, path, example)


def _text(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise PredictionError(f"--predictions {path}: cannot be read: {error.strerror}.") from error
    encoding = next((name for mark, name in MARKS if data.startswith(mark)), "utf-8")
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        what, fix = not_text(data, error)
        raise PredictionError(f"--predictions {path}: {what}.", fix=fix) from error


def _lines(text: str, path: Path, example: str) -> Rows:
    rows, problems = [], []
    for n, value in json_lines(text):
        if isinstance(value, JsonError):
            problems.append(Problem(f"{value.what}.", path, n))
            continue
        if isinstance(value, dict):
            rows.append(Row(value, line=n))
        else:
            problems.append(Problem(f"expected an object like {example}.", path, n))
    if problems:
        raise problems_in(path, problems, PredictionError)
    return Rows("JSON lines", tuple(rows))


def _whole(value: Any, path: Path, example: str) -> Rows:
    if isinstance(value, list):
        return Rows("a JSON list", _listed(value, path, example))
    for key in LISTS:
        if isinstance(value.get(key), list) and all(isinstance(entry, dict) for entry in value[key]):
            return Rows(f"a JSON list under '{key}'", _listed(value[key], path, example, key))
        if isinstance(value.get(key), dict):
            return Rows(f"a JSON object of ids and answers under '{key}'", tuple(_mapped(value[key])), is_map=True)
    columns = [v for v in value.values() if isinstance(v, list)]
    if len(columns) == len(value) and all(isinstance(entry, dict) for v in columns for entry in v):
        rows = [row for key, v in value.items() for row in _listed(v, path, example, key)]
        return Rows("JSON lists by question type", tuple(rows))
    if "id" in value or any(isinstance(v, dict) and "doc" in value for v in value.values()):
        return Rows("JSON lines", (Row(value, line=1),))
    return Rows("a JSON object of ids and answers", tuple(_mapped(value)), is_map=True)


def _listed(entries: list[Any], path: Path, example: str, key: str = "") -> tuple[Row, ...]:
    names = [f"{key}[{i}]" if key else f"entry {i + 1}" for i in range(len(entries))]
    problems = [
        Problem(f"expected an object like {example}.", path, key=name)
        for name, entry in zip(names, entries, strict=True)
        if not isinstance(entry, dict)
    ]
    if problems:
        raise problems_in(path, problems, PredictionError)
    return tuple(Row(entry, entry=name) for name, entry in zip(names, entries, strict=True))


def _mapped(value: Mapping[str, Any]) -> Iterator[Row]:
    """Ids and answers; of answers by id and question (NExT-QA's) the joined id."""
    for id, answer in value.items():
        if isinstance(answer, dict):
            for part, inner in answer.items():
                yield Row({MAP_ID: f"{id}_{part}", MAP_ANSWER: inner}, entry=f"'{id}', '{part}'")
        else:
            yield Row({MAP_ID: id, MAP_ANSWER: answer}, entry=f"'{id}'")


def _table(text: str, path: Path) -> Rows | None:
    """A table with a line of column names; None for text without a separator in its first line."""
    first = text.lstrip().split("\n", 1)[0]
    separator = max(SEPARATORS, key=first.count)
    if separator not in first:
        return None
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    rows, problems = [], []
    try:
        names: list[str] = []
        for cells in reader:
            if not any(cells):
                continue
            if not names:
                names = [name.strip() for name in cells]
            elif len(cells) != len(names):
                what = f"{len(cells)} columns, but {len(names)} names in the first line."
                problems.append(Problem(what, path, reader.line_num, fix="Quote texts that contain separators."))
            else:
                rows.append(Row(named_cells(names, cells), line=reader.line_num))
    except csv.Error as error:
        problems.append(Problem(f"not a table: {error}.", path, reader.line_num))
    except ValueError as error:
        problems.append(Problem(f"{error}.", path, reader.line_num, fix="Keep one of them."))
    if problems:
        raise problems_in(path, problems, PredictionError)
    if not rows:
        raise PredictionError(f"--predictions {path}: the table has column names and no rows.")
    return Rows({",": "CSV", "\t": "a table with tabs", ";": "a table with semicolons"}[separator], tuple(rows))
