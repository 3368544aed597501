"""The records of a large JSON file, read one by one: only a window of the text is in memory.

The rules are those of files.py. After an error the file is read again as a whole, for line and column in the message.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import IO, TypeAlias

from flamingo_eval.data.annotation_files import read_json, read_list, read_object
from flamingo_eval.data.annotations import ProblemLog, Record, shown
from flamingo_eval.errors import DataError
from flamingo_eval.files import JSON_DECODER, has_half_surrogate

WINDOW = 2**20  # characters
LONGEST_CUT = 4  # characters at the end of a window after which a number may continue: 1.5e+ is read as 1.5
_SPACE = re.compile(r"[ \t\n\r]*")

KeyPath: TypeAlias = tuple[str, ...]  # of an object in objects: ("data", "dialogs")


@dataclass(slots=True)
class JsonRecords:
    """The objects in a list of a JSON file, in order.

    `key` names the list in the file's object (`data.dialogs`: in an object in it); empty: the file is the list.
    `rest` is everything else in the file's object, complete once all records are read; the list itself is empty in it,
    and so is the list that `passed_over` names.
    """

    path: Path
    log: ProblemLog
    key: str = ""
    passed_over: str = ""
    rest: Record = field(init=False)

    def __post_init__(self) -> None:
        self.rest = Record({}, self.path, "", self.log)

    def __iter__(self) -> Iterator[Record]:
        """Yields the objects; logs other values. Raises DataError for invalid JSON or another structure."""
        list_path = tuple(self.key.split(".")) if self.key else ()
        values: dict[str, object] = {}
        self.rest = Record(values, self.path, "", self.log)
        lists = (list_path, (self.passed_over,)) if self.passed_over else (list_path,)
        for keys, index, value in stream_json(self.path, *lists):
            if not keys and index is None:
                if not isinstance(value, dict if list_path else list):
                    (read_object if list_path else read_list)(self.path, self.log)  # raises
            elif index is None:
                _put(values, keys, value)
            elif keys != list_path:
                continue
            elif isinstance(value, dict):
                yield Record(value, self.path, f"{self.key}[{index}]", self.log)
            else:
                self.log.add(self.path, f"{self.key}[{index}]", f"expected an object, got {shown(value)}.")
        if len(list_path) == 1:
            self.rest.records(self.key)  # logs a list that is missing, or no list


def _put(values: dict[str, object], keys: KeyPath, value: object) -> None:
    for key in keys[:-1]:
        inner = values.setdefault(key, {})
        if not isinstance(inner, dict):
            return
        values = inner
    values[keys[-1]] = value


def object_entries(path: Path, log: ProblemLog, key: str = "") -> Iterator[tuple[str, object]]:
    """Key and value of each entry of a file's object, or of the object at `key` in it.

    Logs a key that is missing, or no object. Raises DataError for a file that is not JSON, or no object.
    """
    above = (key,) if key else ()
    is_object = not key
    for keys, index, value in stream_json(path, above):
        if not keys and not isinstance(value, dict):
            read_object(path, log)  # raises
        elif keys == above and index is None:
            is_object = isinstance(value, dict)
        elif len(keys) == len(above) + 1 and keys[: len(above)] == above:
            yield keys[-1], value
    if not is_object:
        log.add(path, key, "expected an object.")


def any_has(key: str, records: Iterable[Record]) -> tuple[bool, Iterator[Record]]:
    """Whether any record has `key`, and all records; read as far as the first that has it."""
    rest, before = iter(records), []
    for record in rest:
        before.append(record)
        if record.has(key):
            return True, chain(before, rest)
    return False, iter(before)


def stream_json(path: Path, *list_paths: KeyPath) -> Iterator[tuple[KeyPath, int | None, object]]:
    """The parts of a JSON file: (keys, index, value).

    First ((), None, value), in which a list or object is empty. Of a list: ((), i, element). Of an object: (keys, None,
    value) for each entry; the lists at `list_paths` and the objects around them are empty there, and what they hold
    follows, a list as (keys, i, element). Raises DataError, as read_json does.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            window = _Window(file)
            if window.peek() == "[":
                yield (), None, []
                for i, value in enumerate(window.elements()):
                    yield (), i, value
            elif window.peek() == "{":
                yield (), None, {}
                yield from _entries(window, path, (), list_paths)
            else:
                yield (), None, window.value()
            if window.peek():
                raise _NotJsonError
    except (OSError, ValueError, RecursionError) as error:
        read_json(path)  # raises, with the place
        raise DataError(f"{path}: changed while it was read.", fix="Start again.") from error


def _entries(
    window: _Window, path: Path, above: KeyPath, list_paths: Sequence[KeyPath]
) -> Iterator[tuple[KeyPath, int | None, object]]:
    earlier_keys: set[str] = set()
    for key in window.entries():
        keys = (*above, key)
        if key in earlier_keys:
            read_json(path)  # raises if the two values differ
            window.value()
        elif keys in list_paths and window.peek() == "[":
            yield keys, None, []
            for i, value in enumerate(window.elements()):
                yield keys, i, value
        elif any(keys == path_to[: len(keys)] for path_to in list_paths) and window.peek() == "{":
            yield keys, None, {}
            yield from _entries(window, path, keys, list_paths)
        else:
            yield keys, None, window.value()
        earlier_keys.add(key)


class _NotJsonError(ValueError):
    """The text is not JSON, or truncated; the reader of whole files reports the place."""


class _Window:
    """The part of a file's text that is being read."""

    def __init__(self, file: IO[str]) -> None:
        self.file, self.text, self.at = file, "", 0

    def peek(self) -> str:
        """The next character that is not a space, without consuming it; empty at the end."""
        while True:
            space = _SPACE.match(self.text, self.at)
            self.at = space.end() if space else self.at
            if self.at < len(self.text):
                return self.text[self.at]
            if not self._more():
                return ""

    def take(self, characters: str) -> str:
        """Consume the next character, which must be one of these."""
        character = self.peek()
        if not character or character not in characters:
            raise _NotJsonError
        self.at += 1
        return character

    def value(self) -> object:
        """The next complete value."""
        self.peek()
        while True:
            try:
                value, end = JSON_DECODER.raw_decode(self.text, self.at)
            except json.JSONDecodeError:
                if not self._more():
                    raise
                continue
            if end > len(self.text) - LONGEST_CUT and self._more():
                continue
            if has_half_surrogate(self.text, value, self.at, end):
                raise _NotJsonError
            self.at = end
            return value

    def elements(self) -> Iterator[object]:
        """The values of the list that starts here."""
        self.take("[")
        if self.peek() == "]":
            self.take("]")
            return
        yield self.value()
        while self.take(",]") == ",":
            yield self.value()

    def entries(self) -> Iterator[str]:
        """The keys of the object that starts here; the caller must read each value."""
        self.take("{")
        if self.peek() == "}":
            self.take("}")
            return
        while True:
            if self.peek() != '"':
                raise _NotJsonError
            key = self.value()
            self.take(":")
            yield str(key)
            if self.take(",}") == "}":
                return

    def _more(self) -> bool:
        """Read more text; for a value longer than the window, the window is doubled."""
        part = self.file.read(max(WINDOW, len(self.text) - self.at))
        if part:
            self.text, self.at = self.text[self.at :] + part, 0
        return bool(part)
