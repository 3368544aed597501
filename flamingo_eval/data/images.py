"""Pictures on disk -> pixels, through Pillow.

Whatever cannot be shown as it was meant (cut, empty, not a picture, too large) is a MediaError that names the file and
the cause; a cut picture is never filled up with grey. Metadata that is not needed for the pixels stops no picture.
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

MAX_PIXELS = 89_478_485  # a quarter of a GiB as RGB, where Pillow begins to warn of decompression bombs
MAX_REREAD_BYTES = 2**28  # of a file that is read as a whole to leave its metadata out
_UPRIGHT = {
    2: PillowImage.Transpose.FLIP_LEFT_RIGHT,
    3: PillowImage.Transpose.ROTATE_180,
    4: PillowImage.Transpose.FLIP_TOP_BOTTOM,
    5: PillowImage.Transpose.TRANSPOSE,
    6: PillowImage.Transpose.ROTATE_270,
    7: PillowImage.Transpose.TRANSVERSE,
    8: PillowImage.Transpose.ROTATE_90,
}
_OTHER_FILES = (  # what lies under a picture's name now and then: its first bytes, what it is, what to do
    (rb"(?s)\s*<(!doctype html|html)", "a web page", "Download it again."),
    (rb"(?s)\s*(<\?xml.{0,500}?)?<svg", "an SVG drawing", "Save it as PNG."),
    (rb"(?s)....ftyp(heic|heix|hevc|mif1|msf1)", "a HEIC photo", "Save it as JPEG."),
    (rb"version https://git-lfs", "a Git LFS pointer", "Fetch it with `git lfs pull`."),
)


def open_image(image: Image, max_pixels: int = MAX_PIXELS) -> PillowImage.Image:
    """The picture in RGB, upright by its EXIF orientation; of an animation, the first frame.

    Transparent pixels are laid over white; 16-bit values are scaled to 8 bits. Raises MediaError.
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
    """The same of a picture's bytes; `name` is what a message calls them. Raises MediaError."""
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
        except Exception as error:  # Pillow's plugins raise anything on broken files
            bare = without_metadata(_all_bytes(source))
            if bare is not None:
                try:
                    return _decoded(io.BytesIO(bare[0]), bare[1], max_pixels)
                except _TooLargeError as larger:
                    raise unreadable(path, str(larger), place=place) from larger
                except Exception:  # then it is the pixels, and the first error names it
                    pass
            raise _named(error, source, path, place) from error


class _TooLargeError(Exception):
    """More pixels than are allowed: known before they are decoded."""


def _decoded(source: Path | io.BytesIO, exif: bytes, max_pixels: int) -> PillowImage.Image:
    """The picture of one file; `exif` is its EXIF block where that was taken out of the file."""
    try:
        opened = PillowImage.open(source)
    except PillowImage.DecompressionBombError as error:
        raise _TooLargeError(f"more than {max_pixels} pixels") from error
    with opened:
        if opened.width * opened.height > max_pixels:
            raise _TooLargeError(too_large(opened.width, opened.height, max_pixels))
        opened.load()
        turn = _UPRIGHT.get(exif_orientation(exif) if exif else _orientation(opened))
        return _to_rgb(opened.transpose(turn) if turn is not None else opened)


def _orientation(picture: PillowImage.Image) -> int:
    """EXIF orientation of an opened picture, 1 to 8, from tag 0x112 alone. Of TIFF files, Pillow sees to it itself."""
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
    return value or xmp_orientation(packet.encode() if isinstance(packet, str) else packet)  # XMP where EXIF is silent


def _to_rgb(picture: PillowImage.Image) -> PillowImage.Image:
    mode = picture.mode
    if mode.startswith("I"):  # 16-bit greyscale, which convert("RGB") would clip to white
        values = np.asarray(picture).astype(np.int64)
        if values.min(initial=0) < 0 or values.max(initial=0) > 0xFFFF:
            raise ValueError("its grey values do not fit 16 bits")
        return PillowImage.fromarray(((values + 128) // 257).astype(np.uint8)).convert("RGB")
    if mode == "F":
        raise ValueError("its grey values are floating-point numbers without a known white")
    if picture.has_transparency_data:
        layer = picture.convert("RGBA")
        white = PillowImage.new("RGBA", layer.size, (255, 255, 255, 255))
        return PillowImage.alpha_composite(white, layer).convert("RGB")
    return picture.convert("RGB")


def _all_bytes(source: Path | io.BytesIO) -> bytes:
    """The whole file, for a second look; nothing of one that is unusually large."""
    if isinstance(source, io.BytesIO):
        return source.getvalue()
    try:
        return source.read_bytes() if source.stat().st_size <= MAX_REREAD_BYTES else b""
    except OSError:
        return b""


def _named(error: Exception, source: Path | io.BytesIO, path: Path, place: str) -> MediaError:
    """The MediaError for what Pillow raised."""
    if not isinstance(error, UnidentifiedImageError):
        cause = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        return unreadable(path, cause or type(error).__name__, place=place)
    head = _all_bytes(source)[:1024]
    for pattern, what, fix in _OTHER_FILES:
        if re.match(pattern, head, re.IGNORECASE):
            return unreadable(path, f"this is no picture that Pillow knows, but {what}", fix, place)
    return unreadable(path, "this is no picture that Pillow knows", place=place)


# ------------------------------------------------------------------------------------------------------------ warnings

_lock = threading.Lock()
_inside = 0
_outer: warnings.catch_warnings[None] | None = None


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Pillow's warnings are of metadata and name no file. Filters are the process's, so threads share one change."""
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
