"""Your own rows as a stream: JSON lines, CSV, TSV or Parquet, with the column names of the layout `rows`.

A row is a picture or a clip with a caption, or with a question and its answers.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from flamingo_eval.errors import ConfigError, DataError, did_you_mean
from flamingo_eval.files import JsonError, named_cells, parse_json
from flamingo_eval.records import END_OF_CHUNK, Image, Video
from flamingo_eval.training.streams.documents import Row, json_line_bytes, parquet_rows
from flamingo_eval.training.streams.samples import BrokenSample, Look, Part, Raw, Sample, Text

ROLES = ("image", "video", "start", "end", "caption", "question", "answers")
SUFFIXES = (".jsonl", ".ndjson", ".gz", ".csv", ".tsv", ".parquet")


@dataclass(frozen=True, slots=True)
class TableRows:
    """Rows of one or several tables. `columns`: the name of a role's column, if it differs from the role."""

    paths: tuple[Path, ...]
    images: Path | None = None  # folder of pictures and clips; None: next to the table
    columns: Mapping[str, str] = field(default_factory=dict)
    stem: str = ""  # text between a picture and its caption
    question: str = "Question: {question} Answer:"

    def __post_init__(self) -> None:
        """Raises ConfigError for an unknown role, DataError for a file of another kind."""
        for role in self.columns:
            if role not in ROLES:
                hint = did_you_mean(role, ROLES) or f"Roles: {', '.join(ROLES)}."
                raise ConfigError(f"columns: unknown role '{role}'.", fix=hint)
        for path in self.paths:
            if path.suffix not in SUFFIXES:
                raise DataError(f"{path}: rows are read from {', '.join(SUFFIXES)}, not from '{path.suffix}'.")

    @property
    def shards(self) -> tuple[str, ...]:
        return tuple(path.name for path in self.paths)

    def read(self, shard: int, start: int) -> Iterator[Raw]:
        path = self.paths[shard]
        for number, row in _rows(path, start):
            yield Raw(f"{path.name}, row {number + 1}", _Loader(self, path, row).load)

    def sample(self, values: Mapping[str, Any], beside: Path, look: Look, rng: Random) -> Sample:
        """One row. Raises BrokenSample, MediaError."""
        named = {role: values.get(self.columns.get(role, role)) for role in ROLES}
        picture = self._media(named, beside, look)
        if named["question"] is not None:
            stem = self.question.replace("{question}", _text(named["question"], "question"))
            text = _answer(named["answers"], rng)
        else:
            stem = self.stem
            text = _answer(named["answers"] if named["caption"] is None else named["caption"], rng)
        texts: tuple[Part, ...] = (Text(stem, learned=False), Text(f" {text}")) if stem else (Text(text),)
        return Sample((picture, *texts, END_OF_CHUNK))

    def _media(self, named: Mapping[str, Any], beside: Path, look: Look) -> Part:
        image, video = named["image"], named["video"]
        folder = self.images or beside
        if isinstance(image, Mapping):
            image = image.get("bytes") or image.get("path")
        if isinstance(image, bytes):
            return look.picture(image, "picture")
        if image not in (None, ""):
            return look.picture(Image(folder / _text(image, "image")))
        if video in (None, ""):
            raise BrokenSample("neither a picture nor a clip")
        start, end = (_seconds(named[role], role) for role in ("start", "end"))
        return look.clip(Video(folder / _text(video, "video"), start, end))


@dataclass(frozen=True, slots=True)
class _Loader:
    table: TableRows
    path: Path
    row: Row

    def load(self, look: Look, rng: Random) -> Sample:
        if isinstance(self.row, BrokenSample):
            raise self.row
        return self.table.sample(self.row, self.path.parent, look, rng)


def _rows(path: Path, start: int) -> Iterator[tuple[int, Row]]:
    if path.suffix == ".parquet":
        yield from parquet_rows(path, start)
    elif path.suffix in (".csv", ".tsv"):
        yield from _csv_rows(path, start)
    else:
        for number, line in json_line_bytes(path):
            if number >= start:
                yield number, _json_row(line)


def _json_row(line: bytes) -> Row:
    try:
        value = parse_json(line.decode("utf-8"), "line")
    except UnicodeDecodeError as error:
        return BrokenSample(f"not UTF-8 (byte {error.start} of the line)")
    except JsonError as error:
        return BrokenSample(error.what)
    return value if isinstance(value, dict) else BrokenSample("not a JSON object")


def _csv_rows(path: Path, start: int) -> Iterator[tuple[int, Row]]:
    try:
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            reader = csv.reader(file, delimiter="\t" if path.suffix == ".tsv" else ",")
            header = next(reader, [])
            for number, cells in enumerate(cells for cells in reader if cells):
                if number < start:
                    continue
                if len(cells) != len(header):
                    yield number, BrokenSample(f"{len(cells)} cells, the header has {len(header)}")
                elif any("\udc80" <= c <= "\udcff" for cell in cells if not cell.isascii() for c in cell):
                    yield number, BrokenSample("a text is not UTF-8")
                else:
                    yield number, _named(header, cells)
    except csv.Error as error:
        raise DataError(f"{path}: not CSV: {error}.") from error


def _named(header: Sequence[str], cells: Sequence[str]) -> Row:
    try:
        return named_cells(header, cells)
    except ValueError as error:
        return BrokenSample(str(error))


def _text(value: object, role: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise BrokenSample(f"'{role}' is empty" if value in (None, "") else f"'{role}' is not a text")
    return value.strip()


def _answer(value: object, rng: Random) -> str:
    """One of the answers or captions of a row; in CSV files a JSON list, or one text."""
    if isinstance(value, str) and value.startswith("[") and value.endswith("]"):
        try:
            value = json.loads(value)
        except json.JSONDecodeError as error:
            raise BrokenSample("the answers start like a JSON list but are not one") from error
    if isinstance(value, list):
        if not value:
            raise BrokenSample("no answers")
        value = rng.choice(value)
    if isinstance(value, Mapping):
        value = value.get("answer")
    return _text(value, "caption or answers")


def _seconds(value: object, role: str) -> float | None:
    if value in (None, ""):
        return None
    try:
        return float(str(value))
    except ValueError as error:
        raise BrokenSample(f"'{role}' is not a number") from error
