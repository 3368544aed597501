"""Whether the file of a picture or clip looks complete, from its structure, so that a run decodes each once.

Nearly every format has a length or an end mark, which shows whether a file is truncated. The decoder finds damage in
the middle. Bytes after the end, as written by telephones, are allowed.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterable
from typing import Any, BinaryIO

from PIL import Image as PillowImage

from flamingo_eval.data.containers import EBML, avi_is_whole, boxes, matroska_is_whole, mp4_is_whole
from flamingo_eval.data.images import MAX_PIXELS
from flamingo_eval.data.parquet import cell_bytes
from flamingo_eval.records import Image, Media

# modes that can be shown whatever their values
_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "I;16", "I;16B", "I;16L")
_HEADER_BYTES = 16
_START_OF_SCAN, _END_OF_IMAGE = 0xDA, b"\xff\xd9"
_TIFF_PARTS = ((273, 279), (324, 325))  # tags of the offsets and byte counts of strips, of tiles


def looks_whole(media: Media) -> bool:
    """Whether a picture or clip is almost certainly readable. False: it must be decoded to know."""
    try:
        if not isinstance(media, Image):
            from flamingo_eval.data.videos import has_segment  # FFmpeg: pictures need none

            with media.path.open("rb") as file:
                return _clip_looks_whole(file) and has_segment(media)
        if media.column:
            return _looks_whole(io.BytesIO(cell_bytes(media.path, media.column, media.row)))
        with media.path.open("rb") as file:
            return _looks_whole(file)
    except Exception:  # Pillow's plugins raise any exception; the decoder will report it
        return False


def _clip_looks_whole(file: BinaryIO) -> bool:
    first_bytes = file.read(_HEADER_BYTES)
    is_whole = next((is_whole for is_of, is_whole in _CONTAINERS if is_of(first_bytes)), None)
    return is_whole is not None and is_whole(file, file.seek(0, os.SEEK_END))


def _looks_whole(file: BinaryIO) -> bool:
    first_bytes = file.read(_HEADER_BYTES)
    kind = next(((name, reaches_end) for is_of, name, reaches_end in _FORMATS if is_of(first_bytes)), None)
    if kind is None:
        return False
    name, reaches_end = kind
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    if not reaches_end(file, size):
        return False
    file.seek(0)
    with PillowImage.open(file, formats=(name,)) as picture:  # reads only the header
        readable = picture.mode in _MODES and 0 < picture.width * picture.height <= MAX_PIXELS
        return readable and (name != "TIFF" or _holds_its_parts(picture, size))


def _jpeg(file: BinaryIO, size: int) -> bool:
    """Whether the mark of the end comes behind the first scan: in the segments before it lie thumbnails with their own.

    Nothing but that mark reads ff d9 in a scan, where ff is followed by 00.
    """
    file.seek(2)
    while True:
        mark, kind = file.read(2)
        if mark != 0xFF:
            return False
        if kind == 0xFF:  # a byte that fills up
            file.seek(-1, os.SEEK_CUR)
            continue
        if kind == _START_OF_SCAN:
            break
        file.seek(int.from_bytes(file.read(2), "big") - 2, os.SEEK_CUR)
    scan = file.tell()
    file.seek(max(scan, size - 2))
    if file.read() == _END_OF_IMAGE:
        return True
    file.seek(scan)
    return _END_OF_IMAGE in file.read()


def _png(file: BinaryIO, size: int) -> bool:
    """Whether its chunks follow each other as far as IEND."""
    at = 8
    while at + 12 <= size:
        file.seek(at)
        at += 12 + int.from_bytes(file.read(4), "big")
        if file.read(4) == b"IEND":
            return at <= size
    return False


def _gif(file: BinaryIO, size: int) -> bool:
    """Whether the first picture, which alone is shown, is there to its end."""
    del size
    file.seek(10)
    file.seek(13 + _colours(file.read(1)[0]))
    while kind := file.read(1):
        if kind == b"!":  # an extension
            file.seek(1, os.SEEK_CUR)
            if not _ends_blocks(file):
                return False
        elif kind == b",":
            descriptor = file.read(9)
            file.seek(_colours(descriptor[8]) + 1, os.SEEK_CUR)
            return _ends_blocks(file)
        else:
            return False
    return False


def _colours(flags: int) -> int:
    """Bytes of a GIF's table of colours."""
    return int(3 * 2 ** ((flags & 7) + 1)) if flags & 0x80 else 0


def _ends_blocks(file: BinaryIO) -> bool:
    """Whether a chain of GIF blocks has its empty last one."""
    while length := file.read(1):
        if length == b"\0":
            return True
        file.seek(length[0], os.SEEK_CUR)
    return False


def _riff(file: BinaryIO, size: int) -> bool:
    file.seek(4)
    return 0 < int.from_bytes(file.read(4), "little") <= size - 8


def _bmp(file: BinaryIO, size: int) -> bool:
    file.seek(2)
    return 54 <= int.from_bytes(file.read(4), "little") <= size


def _tiff(file: BinaryIO, size: int) -> bool:
    del file  # Pillow reads the directory with the offsets of its parts
    return size > 8


def _avif(file: BinaryIO, size: int) -> bool:
    parts = boxes(file, size)
    return b"meta" in parts and b"mdat" in parts and all(b.stated for b in parts.values())


def _jp2(file: BinaryIO, size: int) -> bool:
    code = boxes(file, size).get(b"jp2c")
    if code is None:
        return False
    file.seek(code.end - 2)
    return file.read(2) == _END_OF_IMAGE


def _j2k(file: BinaryIO, size: int) -> bool:
    file.seek(size - 2)
    return file.read(2) == _END_OF_IMAGE


def _holds_its_parts(picture: PillowImage.Image, size: int) -> bool:
    tags: Any = getattr(picture, "tag_v2", {})
    for offsets, counts in _TIFF_PARTS:
        if offsets in tags and counts in tags:
            parts = list(zip(_numbers(tags[offsets]), _numbers(tags[counts]), strict=True))
            return bool(parts) and all(count > 0 and offset + count <= size for offset, count in parts)
    return False


def _numbers(value: int | Iterable[int]) -> tuple[int, ...]:
    return (value,) if isinstance(value, int) else tuple(value)


_FORMATS: tuple[tuple[Callable[[bytes], bool], str, Callable[[BinaryIO, int], bool]], ...] = (
    (lambda head: head.startswith(b"\xff\xd8\xff"), "JPEG", _jpeg),
    (lambda head: head.startswith(b"\x89PNG\r\n\x1a\n"), "PNG", _png),
    (lambda head: head.startswith((b"GIF87a", b"GIF89a")), "GIF", _gif),
    (lambda head: head.startswith(b"RIFF") and head[8:12] == b"WEBP", "WEBP", _riff),
    (lambda head: head.startswith(b"BM"), "BMP", _bmp),
    (lambda head: head.startswith((b"II*\0", b"MM\0*")), "TIFF", _tiff),
    (lambda head: head[4:12] in (b"ftypavif", b"ftypavis"), "AVIF", _avif),
    (lambda head: head.startswith(b"\0\0\0\x0cjP  \r\n\x87\n"), "JPEG2000", _jp2),
    (lambda head: head.startswith(b"\xff\x4f\xff\x51"), "JPEG2000", _j2k),
)

_CONTAINERS: tuple[tuple[Callable[[bytes], bool], Callable[[BinaryIO, int], bool]], ...] = (
    (lambda head: head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"), mp4_is_whole),
    (lambda head: head.startswith(EBML), matroska_is_whole),
    (lambda head: head.startswith(b"RIFF") and head[8:12] == b"AVI ", avi_is_whole),
)
