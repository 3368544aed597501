"""Records of annotations. All problems are collected, each with file, line or record, key and fix.

Nothing is repaired: a missing key, a wrong type or a truncated file is a problem, and all problems of a benchmark's
files are raised at once.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from flamingo_eval.errors import DataError, Problem, did_you_mean, problems_in

NO_TEXT = ""


@dataclass(slots=True)
class ProblemLog:
    """The problems of the files of one split, in the order found."""

    problems: list[Problem] = field(default_factory=list)

    def add(self, file: Path, place: str, what: str, fix: str = "", line: int | None = None) -> None:
        """`place` names the record or key: `questions[3].image_id`."""
        self.problems.append(Problem(what, file, line, place, fix))

    def raise_if_any(self, title: str) -> None:
        """DataError with all problems: under the file's name if there is one file, under `title` otherwise."""
        if not self.problems:
            return
        files = list(dict.fromkeys(p.file for p in self.problems))
        if len(files) == 1 and files[0] is not None:
            raise problems_in(files[0], self.problems, DataError)
        named_problems = [
            Problem(f"{p.file.name if p.file else ''}: {p}", p.file) if p.file else p for p in self.problems
        ]
        error = DataError(f"{title}: {len(named_problems)} problems in {len(files)} files", named_problems)
        error.problems = tuple(self.problems)
        raise error


@dataclass(frozen=True, slots=True)
class Record:
    """One record of a file. For an invalid value, its methods log a problem and return a neutral value."""

    values: Mapping[str, object]
    file: Path
    place: str  # "questions[3]"; empty if `line` is enough
    log: ProblemLog
    line: int | None = None

    def problem(self, key: str, what: str, fix: str = "") -> None:
        """Log a problem with this record; `key` may be empty."""
        place = ".".join(p for p in (self.place, key) if p)
        self.log.add(self.file, place, what, fix, self.line)

    def duplicate(self, key: str, id: str, first: str) -> None:
        """Log a duplicate id; `first`: the place of the first one."""
        self.problem(key, f"duplicate id {id}; first at {first}.", "Remove one of them.")

    def has(self, key: str) -> bool:
        """Whether the key is present and has a value."""
        return self.values.get(key) is not None

    def text(self, key: str) -> str:
        """A required string; it may be empty."""
        value = self._get(key)
        if isinstance(value, str):
            return value
        if value is not None:
            self.problem(key, f"expected a text, got {shown(value)}.")
        return NO_TEXT

    def filled(self, key: str) -> str:
        """A required string that is not empty."""
        value = self.text(key)
        if isinstance(self.values.get(key), str) and not value.strip():
            self.problem(key, "is empty.")
        return value

    def id(self, key: str) -> str:
        """An identifier: an integer or a text, as text."""
        value = self._get(key)
        if (isinstance(value, str) and value) or (isinstance(value, int) and not isinstance(value, bool)):
            return str(value)
        if value is not None:
            self.problem(key, f"expected an id (number or text), got {shown(value)}.")
        return NO_TEXT

    def integer(self, key: str) -> int:
        """An integer; in CSV files, digits."""
        value = self._get(key)
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        if isinstance(value, str):
            try:
                return int(value)
            except ValueError:
                pass
        if value is not None:
            self.problem(key, f"expected an integer, got {shown(value)}.")
        return 0

    def number(self, key: str) -> float:
        """A finite number; in CSV files, its text."""
        value = self._get(key)
        try:
            if isinstance(value, (int, float, str)) and not isinstance(value, bool):
                number = float(value)
                if abs(number) < float("inf"):
                    return number
        except (ValueError, OverflowError):
            pass
        if value is not None:
            self.problem(key, f"expected a number, got {shown(value)}.")
        return 0.0

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of strings, at least one."""
        value = self._get(key)
        if isinstance(value, list) and value and all(isinstance(v, str) for v in value):
            return tuple(value)
        if value is not None:
            self.problem(key, f"expected a list of texts, got {shown(value)}.")
        return ()

    def records(self, key: str) -> list[Record]:
        """A list of objects below this one."""
        value = self._get(key)
        if isinstance(value, list):
            return list(self._children(key, value))
        if value is not None:
            self.problem(key, f"expected a list, got {shown(value)}.")
        return []

    def texts_of(self, key: str, inner: str) -> tuple[str, ...]:
        """The text `inner` of each object in the list `key`; Records are only made if there is a problem."""
        value = self.values.get(key)
        if isinstance(value, list):
            values_found = [v.get(inner) if isinstance(v, dict) else None for v in value]
            texts = tuple(text for text in values_found if isinstance(text, str))
            if len(texts) == len(values_found):
                return texts
        return tuple(record.text(inner) for record in self.records(key))

    def _children(self, key: str, values: Sequence[object]) -> Iterator[Record]:
        for i, child in enumerate(values):
            place = f"{self.place}.{key}[{i}]".lstrip(".")
            if isinstance(child, dict):
                yield Record(child, self.file, place, self.log, self.line)
            else:
                self.log.add(self.file, place, f"expected an object, got {shown(child)}.", line=self.line)

    def _get(self, key: str) -> object:
        value = self.values.get(key)
        if value is None:
            if key in self.values:
                self.problem(key, "is null.")
            else:
                self.problem(key, "is missing.", is_it(key, self.values))
        return value


def is_it(name: str, names: Iterable[str]) -> str:
    """`Is it 'x'?` with the nearest name found, or the empty string."""
    return did_you_mean(name, names).replace("Did you mean", "Is it")


def shown(value: object) -> str:
    """A value in an error message: shortened, or only its kind."""
    if isinstance(value, (list, dict)):
        return f"a list of {len(value)}" if isinstance(value, list) else f"an object with {len(value)} keys"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."


def each_once(records: Iterable[tuple[str, Record]], key: str) -> Iterator[tuple[str, Record]]:
    """Records with their ids, in order; a duplicate id is skipped and logged with both places."""
    places: dict[str, str] = {}
    for id, record in records:
        if id == NO_TEXT:
            continue  # already logged as missing
        if id in places:
            record.duplicate(key, id, places[id])
        else:
            places[id] = record.place or f"line {record.line}"
            yield id, record


def unique(records: Iterable[tuple[str, Record]], key: str) -> dict[str, Record]:
    """Records by id, each once."""
    return dict(each_once(records, key))


def no_repeats(records: Iterable[Record], key: str) -> Iterator[Record]:
    """All records; a duplicate id is a problem. Records without an id are allowed: not every release has it."""
    places: dict[str, str] = {}
    for record in records:
        id = record.id(key) if record.has(key) else NO_TEXT
        if id in places:
            record.duplicate(key, id, places[id])
        elif id != NO_TEXT:
            places[id] = record.place
        yield record
