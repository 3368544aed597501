"""Interleaved documents: MMC4's JSON lines with matched pictures, OBELICS' rows of texts and pictures.

MMC4: `text_list`, and `image_info` with `image_name` and `matched_text_index` (Zhu et al. 2023). OBELICS: `texts` and
`images` of one length, one of which is null at each position (Laurençon et al. 2023). Pictures are bytes in the table,
or separate files.
"""

from __future__ import annotations

import gzip
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from random import Random
from typing import IO, Any, TypeAlias

from flamingo_eval.errors import DataError, MediaError
from flamingo_eval.files import JsonError, parse_json
from flamingo_eval.records import END_OF_CHUNK, Image
from flamingo_eval.training.recipe import Incomplete
from flamingo_eval.training.streams.samples import BrokenSample, Look, Part, Raw, Sample, Text

JSON_LINES = (".jsonl", ".ndjson", ".gz", ".zip")
BATCH_ROWS = 64  # rows of a Parquet file that are in memory at once


@dataclass(frozen=True, slots=True)
class Documents:
    """Documents of JSON lines (MMC4) or Parquet files (OBELICS)."""

    paths: tuple[Path, ...]
    images: Path  # the folder of the pictures
    incomplete: Incomplete = "skip"
    next_picture: float = 0.5

    @property
    def shards(self) -> tuple[str, ...]:
        return tuple(path.name for path in self.paths)

    def read(self, shard: int, start: int) -> Iterator[Raw]:
        path = self.paths[shard]
        if path.suffix == ".parquet":
            for number, row in parquet_rows(path, start):
                yield Raw(f"{path.name}, row {number + 1}", self._loader(_obelics, row))
        else:
            for number, line in json_line_bytes(path):
                if number >= start:
                    yield Raw(f"{path.name}, line {number + 1}", self._loader(_mmc4, line))

    def _loader(self, pieces: Callable[[Any], list[Piece]], value: object) -> Callable[[Look, Random], Sample]:
        def load(look: Look, rng: Random) -> Sample:
            del rng
            return Sample(self._parts(pieces(value), look), "window", self.next_picture)

        return load

    def _parts(self, pieces: Sequence[Piece], look: Look) -> tuple[Part, ...]:
        """Pictures and texts in order; an end of chunk before every picture and at the end (Flamingo v2 2.4)."""
        parts: list[Part] = []
        pictures = 0
        for piece in pieces:
            if isinstance(piece, str):
                follows = bool(parts) and isinstance(parts[-1], Text)
                parts.append(Text(f" {piece}" if follows else piece))
                continue
            try:
                picture = self._picture(piece, look)
            except MediaError:
                if self.incomplete == "skip":
                    raise
                continue
            if parts:
                parts.append(END_OF_CHUNK)
            parts.append(picture)
            pictures += 1
        if not pictures:
            raise BrokenSample("none of its pictures can be read" if self.incomplete == "keep" else "no picture")
        if not any(isinstance(part, Text) for part in parts):
            raise BrokenSample("no text")
        return (*parts, END_OF_CHUNK)

    def _picture(self, piece: Mapping[str, Any], look: Look) -> Part:
        content, name = piece.get("bytes"), str(piece.get("path") or "")
        if content:
            return look.picture(bytes(content), name or "picture")
        plain = self.images / name
        return look.picture(Image(plain if plain.is_file() else self.images / PurePosixPath(name).name))


Piece: TypeAlias = str | Mapping[str, Any]  # a text, or a picture in the form of the Hub's tables: bytes, path


def _mmc4(line: bytes) -> list[Piece]:
    """A line of MMC4. Each picture is put before its matched sentence."""
    try:
        value = parse_json(line.decode("utf-8"), "line")
    except UnicodeDecodeError as error:
        raise BrokenSample(f"not UTF-8 (byte {error.start} of the line)") from error
    except JsonError as error:
        raise BrokenSample(error.what) from error
    if not isinstance(value, dict):
        raise BrokenSample("not a JSON object")
    texts, infos = value.get("text_list"), value.get("image_info")
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise BrokenSample("'text_list' is not a list of texts")
    if not isinstance(infos, list) or not all(isinstance(info, dict) for info in infos):
        raise BrokenSample("'image_info' is not a list of objects")
    before: dict[int, list[Piece]] = {}
    for info in infos:
        name, index = info.get("image_name"), info.get("matched_text_index")
        if not isinstance(name, str) or not name:
            raise BrokenSample("a picture has no 'image_name'")
        if type(index) is not int or not 0 <= index < len(texts):
            raise BrokenSample(f"'matched_text_index' {index} is not from 0 to {len(texts) - 1}")
        before.setdefault(index, []).append({"path": name})
    pieces: list[Piece] = []
    for i, text in enumerate(texts):
        pieces += before.get(i, [])
        if text.strip():
            pieces.append(text.strip())
    return pieces


def _obelics(row: Row) -> list[Piece]:
    """A row of OBELICS."""
    if isinstance(row, BrokenSample):
        raise row
    texts, images = row.get("texts"), row.get("images")
    if not isinstance(texts, list) or not isinstance(images, list):
        raise BrokenSample("'texts' and 'images' are not two lists")
    if len(texts) != len(images):
        raise BrokenSample(f"{len(texts)} 'texts' and {len(images)} 'images' have different lengths")
    pieces: list[Piece] = []
    for i, (text, image) in enumerate(zip(texts, images, strict=True)):
        if (text is None) == (image is None):
            raise BrokenSample(f"place {i}: expected a text or a picture, got {'both' if text else 'neither'}")
        if image is not None:
            pieces.append(
                image if isinstance(image, dict) else {"bytes" if isinstance(image, bytes) else "path": image}
            )
        elif not isinstance(text, str):
            raise BrokenSample(f"place {i}: the text is not a text")
        elif text.strip():
            pieces.append(text.strip())
    return pieces


def json_line_bytes(path: Path) -> Iterator[tuple[int, bytes]]:
    """Lines that are not empty, numbered from 0; plain, .gz, or the one file of a .zip. Raises DataError."""
    try:
        with _opened(path) as file:
            number = 0
            for line in file:
                if line.strip():
                    yield number, line
                    number += 1
    except (OSError, EOFError, zlib.error, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: truncated or damaged: {error}.", fix="Download it again.") from error


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    if path.suffix == ".gz":
        with gzip.open(path) as file:
            yield file  # type: ignore[misc]
    elif path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if not name.endswith("/")]
            if len(names) != 1:
                raise DataError(f"{path}: expected one file of JSON lines, got {len(names)} files.")
            with archive.open(names[0]) as inside:
                yield inside
    else:
        with path.open("rb") as plain:
            yield plain


Row: TypeAlias = Mapping[str, Any] | BrokenSample  # the values of a row, or why they cannot be read


def parquet_rows(path: Path, start: int) -> Iterator[tuple[int, Row]]:
    """Rows from the `start`-th on, with their numbers; row groups before it are not read. Raises DataError."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            groups = [file.metadata.row_group(i).num_rows for i in range(file.metadata.num_row_groups)]
            first, number = 0, 0
            while first < len(groups) and number + groups[first] <= start:
                number += groups[first]
                first += 1
            rest = list(range(first, len(groups)))
            for batch in file.iter_batches(BATCH_ROWS, rest) if rest else ():
                for row in _rows_of(batch):
                    if number >= start:
                        yield number, row
                    number += 1
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path}: cannot be read as a table: {error}.", fix="Download it again.") from error


def _rows_of(batch: Any) -> Iterator[Row]:
    try:
        yield from batch.to_pylist()
    except UnicodeDecodeError:  # find the row that cannot be read
        for i in range(batch.num_rows):
            try:
                yield batch.slice(i, 1).to_pylist()[0]
            except UnicodeDecodeError:
                yield BrokenSample("a text is not UTF-8")
