"""Pictures on disk -> pixels, with Pillow.

A picture that is truncated, empty, too large or not a picture is a MediaError with the file and the cause; a truncated
picture is never filled up with grey. Invalid metadata does not prevent decoding.
"""

from __future__ import annotations

import io
import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image as PillowImage
from PIL import UnidentifiedImageError

from flamingo_eval.data.image_metadata import exif_orientation, without_metadata, xmp_orientation
from flamingo_eval.data.media_files import file_size, too_large, unreadable
from flamingo_eval.data.parquet import cell_bytes
from flamingo_eval.errors import MediaError
from flamingo_eval.records import Image

MAX_PIXELS = 89_478_485  # a quarter of a GiB as RGB, Pillow's limit for warnings about decompression bombs
MAX_REREAD_BYTES = 2**28  # size limit of files that are read to remove their metadata
_UPRIGHT = {
    2: PillowImage.Transpose.FLIP_LEFT_RIGHT,
    3: PillowImage.Transpose.ROTATE_180,
    4: PillowImage.Transpose.FLIP_TOP_BOTTOM,
    5: PillowImage.Transpose.TRANSPOSE,
    6: PillowImage.Transpose.ROTATE_270,
    7: PillowImage.Transpose.TRANSVERSE,
    8: PillowImage.Transpose.ROTATE_90,
}
_OTHER_FILES = (  # other files with a picture's name: first bytes, description, fix
    (rb"(?s)\s*<(!doctype html|html)", "a web page", "Download it again."),
    (rb"(?s)\s*(<\?xml.{0,500}?)?<svg", "an SVG drawing", "Save it as PNG."),
    (rb"(?s)....ftyp(heic|heix|hevc|mif1|msf1)", "a HEIC photo", "Save it as JPEG."),
    (rb"version https://git-lfs", "a Git LFS pointer", "Download it with `git lfs pull`."),
)


def open_image(image: Image, max_pixels: int = MAX_PIXELS) -> PillowImage.Image:
    """The picture in RGB, rotated by its EXIF orientation; for an animation, the first frame.

    Transparent pixels are drawn on white; 16-bit values are scaled to 8 bits. Raises MediaError.
    """
    path, place = image.path, f"row {image.row + 1}" if image.column else ""
    if file_size(path) == 0:
        raise unreadable(path, "the file is empty")
    try:
        source: Path | io.BytesIO = io.BytesIO(cell_bytes(path, image.column, image.row)) if image.column else path
    except OSError as error:
        raise unreadable(path, error.strerror or str(error), place=place) from error
    return _opened(source, path, place, max_pixels)


def decode_image(content: bytes, name: str, max_pixels: int = MAX_PIXELS) -> PillowImage.Image:
    """The picture in these bytes, as in `open_image`; `name` is for messages. Raises MediaError."""
    if not content:
        raise unreadable(Path(name), "the file is empty")
    return _opened(io.BytesIO(content), Path(name), "", max_pixels)


def _opened(source: Path | io.BytesIO, path: Path, place: str, max_pixels: int) -> PillowImage.Image:
    with _without_warnings():
        try:
            return _decoded(source, b"", max_pixels)
        except _TooLargeError as error:
            raise unreadable(path, str(error), place=place) from error
        except MemoryError:
            raise
        except Exception as error:  # Pillow's plugins raise any exception for broken files
            bare = without_metadata(_all_bytes(source))
            if bare is not None:
                try:
                    return _decoded(io.BytesIO(bare[0]), bare[1], max_pixels)
                except _TooLargeError as larger:
                    raise unreadable(path, str(larger), place=place) from larger
                except Exception:  # the pixels are damaged, as in the first error
                    pass
            raise _named(error, source, path, place) from error


class _TooLargeError(Exception):
    """More pixels than allowed; raised before decoding."""


def _decoded(source: Path | io.BytesIO, exif: bytes, max_pixels: int) -> PillowImage.Image:
    """The picture of one file; `exif`: its EXIF block, if it was removed from the file."""
    try:
        picture = PillowImage.open(source)
    except PillowImage.DecompressionBombError as error:
        raise _TooLargeError(f"more than {max_pixels} pixels") from error
    with picture:
        if picture.width * picture.height > max_pixels:
            raise _TooLargeError(too_large(picture.width, picture.height, max_pixels))
        picture.load()
        turn = _UPRIGHT.get(exif_orientation(exif) if exif else _orientation(picture))
        return _to_rgb(picture.transpose(turn) if turn is not None else picture)


def _orientation(picture: PillowImage.Image) -> int:
    """EXIF orientation of an opened picture, 1 to 8, from tag 0x112 only. For TIFF files, Pillow applies it itself."""
    info = picture.info
    if picture.format == "TIFF":
        return 1
    block = info.get("exif")
    if block is None and isinstance(hexadecimal := info.get("Raw profile type exif"), str):
        try:
            block = bytes.fromhex("".join(hexadecimal.split("\n")[3:]))
        except ValueError:
            block = None
    value = exif_orientation(block) if isinstance(block, bytes) else 0
    packet = info.get("XML:com.adobe.xmp") or info.get("xmp") or b""
    return value or xmp_orientation(
        packet.encode() if isinstance(packet, str) else packet
    )  # XMP, if EXIF has no orientation


def _to_rgb(picture: PillowImage.Image) -> PillowImage.Image:
    mode = picture.mode
    if mode.startswith("I"):  # 16-bit greyscale; convert("RGB") would clip it to white
        values = np.asarray(picture).astype(np.int64)
        if values.min(initial=0) < 0 or values.max(initial=0) > 0xFFFF:
            raise ValueError("its grey values do not fit 16 bits")
        return PillowImage.fromarray(((values + 128) // 257).astype(np.uint8)).convert("RGB")
    if mode == "F":
        raise ValueError("its grey values are floating-point numbers with an unknown white")
    if picture.has_transparency_data:
        layer = picture.convert("RGBA")
        white = PillowImage.new("RGBA", layer.size, (255, 255, 255, 255))
        return PillowImage.alpha_composite(white, layer).convert("RGB")
    return picture.convert("RGB")


def _all_bytes(source: Path | io.BytesIO) -> bytes:
    """All bytes of the file, for a second attempt; empty if it is unusually large."""
    if isinstance(source, io.BytesIO):
        return source.getvalue()
    try:
        return source.read_bytes() if source.stat().st_size <= MAX_REREAD_BYTES else b""
    except OSError:
        return b""


def _named(error: Exception, source: Path | io.BytesIO, path: Path, place: str) -> MediaError:
    """The MediaError for an exception of Pillow."""
    if not isinstance(error, UnidentifiedImageError):
        cause = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        return unreadable(path, cause or type(error).__name__, place=place)
    first_bytes = _all_bytes(source)[:1024]
    for pattern, what, fix in _OTHER_FILES:
        if re.match(pattern, first_bytes, re.IGNORECASE):
            return unreadable(path, f"expected a picture that Pillow can read, got {what}", fix, place)
    return unreadable(path, "not a picture that Pillow can read", place=place)


# ------------------------------------------------------------------------------------------------------------ warnings

_lock = threading.Lock()
_inside = 0
_outer: warnings.catch_warnings[None] | None = None


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Hides Pillow's warnings, which are about metadata. Filters are global, so threads share one change."""
    global _inside, _outer
    with _lock:
        if _inside == 0:
            _outer = warnings.catch_warnings()
            _outer.__enter__()
            warnings.filterwarnings("ignore", module=r"PIL(\.|$)")
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0 and _outer is not None:
                _outer.__exit__(None, None, None)
                _outer = None
