"""Files of annotations -> records: JSON, JSON lines, CSV and TSV. json_records.py reads large JSON files."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from flamingo_eval import files
from flamingo_eval.data.annotations import ProblemLog, Record, is_it, shown
from flamingo_eval.errors import DataError, Problem


def read_text(path: Path) -> str:
    """A UTF-8 file as text. Raises DataError."""
    return files.read_text(path, DataError)


def read_json(path: Path) -> object:
    """A JSON file of a benchmark. Raises DataError with line and column."""
    return files.read_json(path, DataError)


def read_object(path: Path, log: ProblemLog) -> Record:
    """A JSON file whose top is an object."""
    value = read_json(path)
    if not isinstance(value, dict):
        raise DataError(f"{path}: expected an object at the top, got {shown(value)}.")
    return Record(value, path, "", log)


def read_list(path: Path, log: ProblemLog) -> list[Record]:
    """A JSON file whose top is a list of objects."""
    value = read_json(path)
    if not isinstance(value, list):
        keys = f" with the keys {', '.join(list(value)[:6])}" if isinstance(value, dict) else ""
        raise DataError(f"{path}: expected a list at the top, got {shown(value)}{keys}.")
    return list(Record({}, path, "", log)._children("", value))


def read_json_lines(path: Path, log: ProblemLog) -> list[Record]:
    """A file of one JSON object a line; empty lines are skipped, each bad line is a problem of its own."""
    records = []
    for number, value in files.json_lines(read_text(path)):
        if isinstance(value, files.JsonError):
            log.add(path, "", f"{value.what}.", value.fix or "Download the file again.", number)
        elif isinstance(value, dict):
            records.append(Record(value, path, "", log, number))
        else:
            log.add(path, "", f"expected an object, got {shown(value)}.", line=number)
    return records


def read_csv(path: Path, columns: Sequence[str], log: ProblemLog, delimiter: str = ",") -> list[Record]:
    """A CSV file with a header, every cell as text: `null`, `NA` and empty cells have no special meaning.

    Raises DataError at once if one of `columns` is missing, with the columns found and the nearest name, and for a file
    with another separator.
    """
    reader = csv.reader(io.StringIO(_csv_text(path), newline=""), delimiter=delimiter)
    rows: list[Record] = []
    try:
        header = [name.strip() for name in next(reader, [])]
        if not header:
            raise DataError(f"{path}: the file is empty.", fix="Download it again.")
        _check_separator(path, header, delimiter)
        missing = [
            Problem(f"column '{c}' is missing.", path, 1, fix=is_it(c, header)) for c in columns if c not in header
        ]
        if missing:
            raise DataError(f"{path}: columns are missing", missing, fix=f"Columns found: {', '.join(header)}.")
        for cells in reader:
            if len(cells) == len(header):
                rows.append(Record(files.named_cells(header, cells), path, "", log, reader.line_num))
            elif cells:
                log.add(path, "", f"{len(cells)} cells, the header has {len(header)}.", line=reader.line_num)
    except csv.Error as error:
        raise DataError(f"{path}: line {reader.line_num}: not CSV: {error}.") from error
    except ValueError as error:
        raise DataError(f"{path}: line {reader.line_num}: {error}.", fix="Keep one of them.") from error
    return rows


SEPARATORS = {";": "semicolons", "\t": "tabs", ",": "commas", "|": "vertical bars"}


def _check_separator(path: Path, header: Sequence[str], delimiter: str) -> None:
    """Raise DataError if the header has one column and contains another separator."""
    separator = next(
        (mark for mark in SEPARATORS if mark != delimiter and len(header) == 1 and mark in header[0]), None
    )
    if separator is not None:
        raise DataError(
            f"{path}: line 1: columns found: {header[0]}: is it separated by {SEPARATORS[separator]}?",
            fix=f"Save it with {SEPARATORS[delimiter]} between the columns"
            + (", or as .tsv." if separator == "\t" else "."),
        )


def _csv_text(path: Path) -> str:
    """A table's text. Spreadsheets save in other encodings than UTF-8, so the error names the first invalid line."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}.") from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if data.startswith((b"\xff\xfe", b"\xfe\xff")):
            wide = 32 if data.startswith((b"\xff\xfe\0\0", b"\0\0\xfe\xff")) else 16
            raise DataError(f"{path}: expected UTF-8 text, got UTF-{wide}.", fix="Save it as UTF-8.") from error
        line = data.count(b"\n", 0, error.start) + 1
        lines = data[max(0, error.start - 15) : error.start + 15].decode("latin-1").splitlines()
        text = next((part for part in lines if data[error.start : error.start + 1].decode("latin-1") in part), "")
        raise DataError(
            f"{path}: line {line}: not UTF-8 text (byte {error.start}); as Latin-1 it is '{text.strip()}'.",
            fix="Save it as UTF-8.",
        ) from error
