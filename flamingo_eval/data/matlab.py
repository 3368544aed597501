"""Just enough of MATLAB's version 5 files to read the synset table of ImageNet's development kit (meta.mat).

The format is MathWorks' "MAT-File Format", level 5: a 128-byte header, then tagged elements, compressed or not.
Numbers, texts, cells and structs are read; sparse arrays, objects and complex numbers are not.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from flamingo_eval.errors import DataError

HEADER = 128
MAX_BYTES = 2**26  # decompressed; meta.mat is under 1 MB
MAX_DEPTH = 8
MAX_ROWS = 100_000
MATRIX, COMPRESSED = 14, 15
CELL, STRUCT, CHAR = 1, 2, 4
NUMBERS = {1: "b", 2: "B", 3: "h", 4: "H", 5: "i", 6: "I", 7: "f", 9: "d", 12: "q", 13: "Q"}
TEXTS = {1: "utf-8", 2: "utf-8", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}


@dataclass(frozen=True, slots=True)
class Matrix:
    """One variable: a text, numbers in column order, or a struct array as a list of rows."""

    name: str
    value: object


def read_matlab(path: Path) -> dict[str, object]:
    """Variables by name. A struct array becomes a list of dicts. Raises DataError for what is no such file, or cut."""
    try:
        data = path.read_bytes()
        if len(data) < HEADER or data[126:128] not in (b"IM", b"MI"):
            raise DataError(f"{path}: not a MATLAB 5 file.", fix="Download it again.")
        order = "<" if data[126:128] == b"IM" else ">"
        reader = _Reader(order)
        found = [reader.matrix(body, 0) for _, body in reader.top(data[HEADER:])]
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}.") from error
    except (struct.error, zlib.error, UnicodeDecodeError, ValueError, KeyError, IndexError) as error:
        raise DataError(f"{path}: not a whole MATLAB 5 file: {error}.", fix="Download it again.") from error
    return {matrix.name: matrix.value for matrix in found}


class _Reader:
    def __init__(self, order: str) -> None:
        self.order = order

    def elements(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Type and body of each tagged element; small ones have both in eight bytes."""
        at = 0
        while at + 8 <= len(data):
            kind, size = struct.unpack_from(self.order + "II", data, at)
            if kind >> 16:  # small: two bytes of size, two of type, four of data
                yield kind & 0xFFFF, data[at + 4 : at + 4 + min(kind >> 16, 4)]
                at += 8
                continue
            body = data[at + 8 : at + 8 + size]
            if len(body) < size:
                raise ValueError(f"{size} bytes were announced, {len(body)} are left")
            yield kind, body
            at += 8 + size + (0 if kind == COMPRESSED else -size % 8)

    def top(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        for kind, body in self.elements(data):
            if kind != COMPRESSED:
                yield kind, body
                continue
            stream = zlib.decompressobj()
            plain = stream.decompress(body, MAX_BYTES)
            if stream.unconsumed_tail:
                raise ValueError(f"more than {MAX_BYTES} bytes")
            yield from self.elements(plain)

    def matrix(self, body: bytes, depth: int) -> Matrix:
        if depth > MAX_DEPTH:
            raise ValueError("nested too deeply")
        if not body:
            return Matrix("", [])
        parts = self.elements(body)
        flags, dims, name = (next(parts, (0, b""))[1] for _ in range(3))
        kind = struct.unpack_from(self.order + "I", flags)[0] & 0xFF
        count = 1
        for size in self.numbers(5, dims):
            count *= int(size)
        label = name.decode("ascii")
        if kind == STRUCT:
            width = int(self.numbers(5, next(parts, (5, b""))[1])[0])
            names = next(parts, (1, b""))[1]
            keys = [names[i : i + width].split(b"\0")[0].decode("ascii") for i in range(0, len(names), max(width, 1))]
            values = (self.matrix(value, depth + 1).value for _, value in parts)
            if count > MAX_ROWS:
                raise ValueError(f"{count} rows")
            rows = [{key: next(values, None) for key in keys} for _ in range(count)]
            return Matrix(label, rows)
        if kind == CELL:
            return Matrix(label, [self.matrix(value, depth + 1).value for _, value in parts])
        stored, data = next(parts, (2, b""))
        if kind == CHAR:
            codec = TEXTS[stored] if stored in (1, 2, 16) else TEXTS[stored] + ("-le" if self.order == "<" else "-be")
            return Matrix(label, data.decode(codec))
        return Matrix(label, self.numbers(stored, data))

    def numbers(self, stored: int, data: bytes) -> list[float]:
        code = NUMBERS[stored]
        return list(struct.unpack(f"{self.order}{len(data) // struct.calcsize(code)}{code}", data))
