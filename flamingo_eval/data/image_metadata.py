"""Metadata of picture files: reads the orientation, and can remove everything else.

Phones, editors and web sites write EXIF blocks, colour profiles, comments and thumbnails that violate the standards.
They are not needed for the pixels, so they must not prevent decoding.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

ORIENTATION = 0x0112
_NUMBERS = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i"}  # TIFF types of integers of at most four bytes
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_PIXELS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
_JPEG_COLOUR = {
    0xE0: (b"JFIF\0", 14),
    0xEE: (b"Adobe", 12),
}  # segments with information on colours, and their minimum length
_JPEG_ALONE = (0x01, *range(0xD0, 0xD8))  # markers without a length
_JPEG_COMMENT = 0xFE
_START_OF_SCAN = 0xDA
# TIFF tags by which pixels are read; of the others, only the orientation is kept.
_TIFF_PIXELS = frozenset(
    [254, 255, 256, 257, 258, 259, 262, 263, 266, 273, 277, 278, 279, 280, 281, 284, 292, 293, 301, 317, 318, 319, 320,
     322, 323, 324, 325, 332, 336, 338, 339, 340, 341, 347, 529, 530, 531, 532]
)  # fmt: skip
_TIFF_HEADS = {  # byte order, type of an offset, type of the number of entries
    b"II*\0": ("<", "I", "H"), b"MM\0*": (">", "I", "H"), b"II+\0": ("<", "Q", "Q"), b"MM\0+": (">", "Q", "Q"),
}  # fmt: skip
_RIFF_METADATA = (b"EXIF", b"XMP ", b"ICCP")


def exif_orientation(block: bytes) -> int:
    """Tag 0x112 in the first directory of an EXIF block, 1 (upright) to 8; 0 if the block has no such tag.

    No other tag is read. An unknown value counts as 1. Of two such tags the last one counts.
    """
    data = re.sub(rb"^(Exif\0\0)+", b"", block)
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None or len(data) < 10:
        return 0
    (at,) = struct.unpack_from(order + "I", data, 4)
    if at + 2 > len(data):
        return 0
    (entries,) = struct.unpack_from(order + "H", data, at)
    value = 0
    for start in range(at + 2, min(at + 2 + 12 * entries, len(data) - 11), 12):
        tag, kind, count = struct.unpack_from(order + "HHI", data, start)
        if tag == ORIENTATION:
            is_known = kind in _NUMBERS and count == 1
            number = struct.unpack_from(order + _NUMBERS[kind], data, start + 8)[0] if is_known else 1
            value = number if 1 <= number <= 8 else 1
    return value


def xmp_orientation(packet: bytes) -> int:
    """The orientation in an XMP packet, 1 to 8; 1 if it has none."""
    match = re.search(rb'tiff:Orientation(?:="|>)([1-8])', packet)
    return int(match[1]) if match else 1


def without_metadata(data: bytes) -> tuple[bytes, bytes] | None:
    """A JPEG, PNG, WebP or TIFF file with its pixels alone, and its EXIF block (empty if there is none).

    None for other files, and for those whose own structure is broken: there the pixels are in doubt too.
    """
    try:
        if data.startswith(b"\xff\xd8"):
            return _bare_jpeg(data)
        if data.startswith(_PNG_SIGNATURE):
            return _bare_png(data)
        if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
            return _bare_webp(data)
        if data[:4] in _TIFF_HEADS:
            return _bare_tiff(data)
    except (struct.error, IndexError):
        pass
    return None


def _bare_jpeg(data: bytes) -> tuple[bytes, bytes] | None:
    """Removes application data and comments before the first scan; everything after that is copied."""
    segments, exif, at = [data[:2]], b"", 2
    while at + 1 < len(data):
        if data[at] != 0xFF:
            at += 1  # stray bytes between segments, which decoders skip
            continue
        marker = data[at + 1]
        if marker in (0x00, 0xFF) or marker in _JPEG_ALONE:
            at += 1 if marker == 0xFF else 2
            continue
        if marker == _START_OF_SCAN:
            return b"".join([*segments, data[at:]]), exif
        (length,) = struct.unpack_from(">H", data, at + 2)
        body = data[at + 4 : at + 2 + length]
        if marker == 0xE1 and body.startswith(b"Exif\0\0"):
            exif += body[6:] if exif else body
        head, min_length = _JPEG_COLOUR.get(marker, (b"", 0))
        is_metadata = 0xE0 <= marker <= 0xEF or marker == _JPEG_COMMENT
        if not is_metadata or (head and body.startswith(head) and len(body) >= min_length):
            segments.append(data[at : at + 2 + length])
        at += 2 + max(length, 2)
    return None


def _bare_png(data: bytes) -> tuple[bytes, bytes] | None:
    chunks, exif = [_PNG_SIGNATURE], b""
    for name, start, end in _png_chunks(data):
        if name in _PNG_PIXELS:
            chunks.append(data[start:end])
        elif name == b"eXIf":
            exif = data[start + 8 : end - 4]
        elif not name[0] & 0x20:
            return None  # an unknown critical chunk
    return b"".join(chunks), exif


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Name, begin and end of each chunk: length, name, content, checksum."""
    at = len(_PNG_SIGNATURE)
    while at + 8 <= len(data):
        length, name = struct.unpack_from(">I4s", data, at)
        yield name, at, at + 12 + length
        at += 12 + length


def _bare_webp(data: bytes) -> tuple[bytes, bytes] | None:
    chunks, exif, at = [], b"", 12
    while at + 8 <= len(data):
        name, length = struct.unpack_from("<4sI", data, at)
        end = at + 8 + length + length % 2
        if name == b"EXIF":
            exif = data[at + 8 : at + 8 + length]
        elif name == b"VP8X":
            chunks.append(data[at : at + 8] + bytes([data[at + 8] & ~0x2C]) + data[at + 9 : end])  # says what follows
        elif name not in _RIFF_METADATA:
            chunks.append(data[at:end])
        at = end
    body = b"WEBP" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body, exif


def _bare_tiff(data: bytes) -> tuple[bytes, bytes] | None:
    """The first directory with the tags of its pixels, and no further directory. Offsets stay, so nothing moves.

    Classic files and BigTIFF. An orientation that no standard knows is left out: the picture is upright.
    """
    order, offset, number = _TIFF_HEADS[data[:4]]
    head, entry = order + number, order + "HH" + offset + f"{struct.calcsize(order + offset)}s"
    (at,) = struct.unpack_from(order + offset, data, 4 if offset == "I" else 8)
    (entries,) = struct.unpack_from(head, data, at)
    first, size = at + struct.calcsize(head), struct.calcsize(entry)
    kept = []
    for i in range(min(entries, (len(data) - first) // size)):
        tag, kind, count, value = struct.unpack_from(entry, data, first + i * size)
        if tag in _TIFF_PIXELS or (tag == ORIENTATION and _is_orientation(order, kind, count, value)):
            kept.append(data[first + i * size : first + (i + 1) * size])
    directory = struct.pack(head, len(kept)) + b"".join(kept) + bytes(struct.calcsize(order + offset))
    return data[:at] + directory + data[at + len(directory) :], b""


def _is_orientation(order: str, kind: int, count: int, value: bytes) -> bool:
    return kind in _NUMBERS and count == 1 and 1 <= struct.unpack_from(order + _NUMBERS[kind], value)[0] <= 8
