"""Containers that state the lengths of their parts: whether a file is there to its end, with nothing decoded.

ISO boxes (MP4, MOV, AVIF, JPEG 2000), Matroska and WebM, RIFF (AVI). Every function takes an open file and its size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import BinaryIO

EBML, SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"  # ids of Matroska's head and of all the rest
_FRAGMENT = b"moof"


@dataclass(frozen=True, slots=True)
class Box:
    """A box of an ISO file."""

    start: int  # of its content
    end: int
    stated: bool  # False: it extends to the end of the file


def boxes(file: BinaryIO, size: int) -> dict[bytes, Box]:
    """The last box of each kind; {} if one of them reaches past the end of the file."""
    boxes_by_kind: dict[bytes, Box] = {}
    at = 0
    while at + 8 <= size:
        file.seek(at)
        length, kind, start = int.from_bytes(file.read(4), "big"), file.read(4), at + 8
        if length == 1:
            length, start = int.from_bytes(file.read(8), "big"), at + 16
        end = at + length if length else size
        if end < start or end > size:
            return {}
        boxes_by_kind[kind] = Box(start, end, bool(length))
        at = end
    return boxes_by_kind


def mp4_is_whole(file: BinaryIO, size: int) -> bool:
    """Whether an MP4 or MOV file has its index and everything after it; False for one in fragments."""
    parts = boxes(file, size)
    return b"moov" in parts and b"mdat" in parts and _FRAGMENT not in parts and all(b.stated for b in parts.values())


def matroska_is_whole(file: BinaryIO, size: int) -> bool:
    """Whether a Matroska or WebM file is as long as it says; False for a stream, which does not say."""
    file.seek(len(EBML))
    head = _variable_length(file)
    if head is None:
        return False
    file.seek(head, 1)
    if file.read(len(SEGMENT)) != SEGMENT:
        return False
    length = _variable_length(file)
    return length is not None and file.tell() + length <= size


def avi_is_whole(file: BinaryIO, size: int) -> bool:
    """Whether an AVI file has all its parts, of which large files have several."""
    at = 0
    while at + 12 <= size:
        file.seek(at)
        if file.read(4) != b"RIFF":
            break
        length = int.from_bytes(file.read(4), "little")
        at += 8 + length + length % 2
        if not length or at > size:
            return False
    return at > 0


def _variable_length(file: BinaryIO) -> int | None:
    """An EBML length: the leading zeros of its first byte say how many bytes follow. None if it is unknown."""
    first = file.read(1)
    if not first or not first[0]:
        return None
    more = 8 - first[0].bit_length()
    bits = 7 * (more + 1)
    value = int.from_bytes(first + file.read(more), "big") & ((1 << bits) - 1)
    return None if value == (1 << bits) - 1 else value
