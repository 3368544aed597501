"""Files: JSON and JSON lines read by one set of rules, files written atomically, sha256.

The rules for all JSON: UTF-8 (a byte order mark is dropped), no key with two different values in one object, no half of
a surrogate pair in a text, no deeper nesting and no larger number than Python reads. A violation is an error with its
line; nothing is repaired. The caller passes the error class.

A repository cloned without Git LFS, or a download that ended at a login page, leaves a short text instead of a large
file: a placeholder, which has its own message.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from flamingo_eval.errors import FlamingoEvalError, UsageError

ErrorClass = type[FlamingoEvalError]
_NO_TEXTS = (  # first bytes of files that are no text, what they are, what to do
    (b"\x1f\x8b", "compressed with gzip", "Unpack it first: gunzip."),
    (b"\xfd7zXZ", "compressed with xz", "Unpack it first: unxz."),
    (b"BZh", "compressed with bzip2", "Unpack it first: bunzip2."),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd", "Unpack it first: unzstd."),
    (b"PK\x03\x04", "a zip archive or an Excel file", "Unpack it first; save a table as CSV."),
    (b"PAR1", "a Parquet table", "Save it as CSV or JSON: pandas.read_parquet(...).to_csv(..., index=False)."),
)
_LFS = b"version https://git-lfs.github.com/spec/"


class JsonError(ValueError):
    """Why a text is not valid JSON; `line` and `column` count from 1 and are 0 if unknown."""

    def __init__(self, what: str, line: int = 0, column: int = 0, fix: str = "") -> None:
        place = f"line {line}, column {column}: " if line else ""
        super().__init__(f"{place}{what}")
        self.what, self.line, self.column, self.fix = what, line, column, fix


def parse_json(text: str, of: str = "file") -> object:
    """The value of a JSON text. Raises JsonError, which distinguishes truncated JSON from other text."""
    try:
        value: object = json.loads(text, object_pairs_hook=_unique_keys)
    except json.JSONDecodeError as error:
        if not text.strip():
            raise JsonError(f"not JSON: the {of} is empty", fix="Download it again.") from error
        if error.pos >= len(text.rstrip()) - 1 or error.msg.startswith("Unterminated string"):
            what = f"not JSON: truncated, the {of} ends in the middle of a value ({len(text)} characters)"
            raise JsonError(what, error.lineno, error.colno, "Download it again.") from error
        raise JsonError(f"not JSON: {error.msg}", error.lineno, error.colno) from error
    except JsonError:
        raise
    except RecursionError as error:
        raise JsonError("not JSON: nested too deeply") from error
    except ValueError as error:  # a number of more digits than Python reads
        raise JsonError(f"not JSON that can be read: {error}") from error
    if has_half_surrogate(text, value):
        raise JsonError("a text holds half a surrogate pair (\\ud800 to \\udfff), which is not a character")
    return value


def _unique_keys(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """An object without duplicate keys; Python would silently use the last value of a key."""
    value = dict(pairs)
    if len(value) != len(pairs):
        for key, item in pairs:
            if value[key] != item:
                raise JsonError(f"duplicate key '{key}' in one object, with different values", fix="Keep one of them.")
    return value


JSON_DECODER = json.JSONDecoder(object_pairs_hook=_unique_keys)


def has_half_surrogate(text: str, value: object, start: int = 0, end: int | None = None) -> bool:
    """Whether a text in `value` contains a lone surrogate; only checked if text[start:end] has such an escape."""
    if text.find("\\ud", start, end) < 0 and text.find("\\uD", start, end) < 0:
        return False
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    return False


def read_text(path: Path, error: ErrorClass, limit: int | None = None) -> str:
    """A UTF-8 file as text. Raises `error` for a file that is missing, unreadable, over `limit` bytes or not UTF-8."""
    data = b""
    try:
        size = path.stat().st_size
        if limit is not None and size > limit:
            raise error(f"{path}: {size} bytes are too many for this file (limit {limit}).")
        data = path.read_bytes()
        return data.decode("utf-8-sig")
    except FileNotFoundError as problem:
        raise error(f"{path}: there is no such file.") from problem
    except OSError as problem:
        raise error(f"{path}: cannot be read: {problem.strerror}.") from problem
    except UnicodeDecodeError as problem:
        what, fix = not_text(data, problem)
        raise error(f"{path}: {what}.", fix=fix) from problem


def not_text(data: bytes, problem: UnicodeDecodeError) -> tuple[str, str]:
    """What the bytes of a file are that should be a text, and what to do."""
    kinds = (row for magic, *row in _NO_TEXTS if data.startswith(magic))
    what, fix = next(kinds, (f"not UTF-8 text (byte {problem.start})", "Save the file as UTF-8."))
    return what, fix


def read_json(path: Path, error: ErrorClass, limit: int | None = None) -> object:
    """The value in a JSON file. Raises `error` with the place and the problem."""
    try:
        return parse_json(read_text(path, error, limit))
    except JsonError as problem:
        if instead := placeholder(path):
            raise error(f"{path}: {instead}") from problem
        raise error(f"{path}: {problem}.", fix=problem.fix) from problem


def read_json_object(path: Path, error: ErrorClass, limit: int | None = None) -> dict[str, Any]:
    """The object in a JSON file. Raises `error`, also if the value is not an object."""
    value = read_json(path, error, limit)
    if not isinstance(value, dict):
        raise error(f"{path}: expected an object, got {json_kind(value)}.")
    return value


def json_lines(text: str) -> Iterator[tuple[int, object | JsonError]]:
    """Number (from 1) and value of each line that is not empty; for an invalid line, the JsonError instead."""
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            yield number, parse_json(line, "line")
        except JsonError as problem:
            yield number, problem


def named_cells(names: Sequence[str], cells: Sequence[str]) -> dict[str, str]:
    """A row of a table by the names of its columns; as many of both. Columns without a name may be several.

    Raises ValueError for two columns of one name with different cells: nobody knows which was meant.
    """
    row = dict(zip(names, cells, strict=True))
    if len(row) != len(names):
        for name, cell in zip(names, cells, strict=True):
            if name and row[name] != cell:
                raise ValueError(f"two columns '{name}', with different cells")
    return row


def json_kind(value: object) -> str:
    """What a JSON value is, in words: `a list`, `an object`, or the scalar itself."""
    if isinstance(value, list):
        return "a list"
    return "an object" if isinstance(value, dict) else json.dumps(value, ensure_ascii=False)[:60]


def json_text(value: object) -> str:
    """JSON for people and diffs: one key per line, lists of plain values on one line. Raises ValueError for NaN."""
    return _indented(value, "") + "\n"


def _indented(value: object, indent: str) -> str:
    inner = indent + " "
    if isinstance(value, Mapping) and value:
        items = (f"{json.dumps(str(k), ensure_ascii=False)}: {_indented(v, inner)}" for k, v in value.items())
        return "{\n" + ",\n".join(inner + item for item in items) + f"\n{indent}}}"
    if isinstance(value, (list, tuple)) and any(isinstance(v, (list, tuple, Mapping)) for v in value):
        return "[\n" + ",\n".join(inner + _indented(v, inner) for v in value) + f"\n{indent}]"
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file under a temporary name, then rename it: it is the old or the new one. Raises OSError."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content.encode("utf-8") if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def sha256_file(path: Path) -> str:
    """Hex digest of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_json(value: Mapping[str, object]) -> str:
    """Hex digest of a JSON value with sorted keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=True).encode()).hexdigest()


def printable(name: str | Path) -> str:
    """A file name as text for a record; bytes that are not UTF-8 become escapes."""
    return str(name).encode("utf-8", "backslashreplace").decode()


def placeholder(path: Path) -> str:
    """A description of the placeholder, and how to get the file itself; empty for any other file."""
    try:
        with path.open("rb") as file:
            begin = file.read(128)
    except OSError:
        return ""
    if begin.startswith(_LFS):
        return "a Git LFS pointer, not the file itself. Get it with `git lfs pull`, or download it from the Hub."
    if begin.lstrip().lower().startswith((b"<!doctype html", b"<html")):
        return "a web page, not the file itself. Download it again; it may need a login or a licence."
    return ""


def write_error(out: Path, error: OSError) -> UsageError:
    """The error for an output that cannot be written, with a fix."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return UsageError(f"{out}: the disk is full.", fix="Free some space, or choose another --out.")
    return UsageError(f"{out}: cannot be written: {error.strerror}.", fix="Choose another --out.")
