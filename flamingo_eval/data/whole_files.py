"""Does a picture's file look whole? Told from its first and last bytes, so that a run decodes each picture once.

JPEG and PNG files end with a mark of their own, which a cut file has not. Damage in the middle is found by the decoder.
"""

from __future__ import annotations

import io
import os
from typing import BinaryIO

from PIL import Image as PillowImage

from flamingo_eval.data.images import MAX_PIXELS
from flamingo_eval.data.parquet import cell_bytes
from flamingo_eval.records import Image, Media

_MARKS = ((b"\xff\xd8\xff", b"\xff\xd9"), (b"\x89PNG\r\n\x1a\n", b"IEND\xaeB\x60\x82"))  # begin and end
_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr")  # those that can be shown whatever their values
_HEADER_BYTES = 16


def looks_whole(media: Media) -> bool:
    """Whether a picture is all but surely readable. False: only decoding it tells, as with every clip."""
    if not isinstance(media, Image):
        return False
    try:
        if media.column:
            return _looks_whole(io.BytesIO(cell_bytes(media.path, media.column, media.row)))
        with media.path.open("rb") as file:
            return _looks_whole(file)
    except Exception:  # Pillow's plugins raise anything; whoever decodes it says what is wrong
        return False


def _looks_whole(file: BinaryIO) -> bool:
    head = file.read(_HEADER_BYTES)
    end = next((end for begin, end in _MARKS if head.startswith(begin)), None)
    if end is None:
        return False
    file.seek(-len(end), os.SEEK_END)
    if file.read() != end:
        return False
    file.seek(0)
    with PillowImage.open(file, formats=("JPEG", "PNG")) as picture:  # the header alone is read
        return picture.mode in _MODES and 0 < picture.width * picture.height <= MAX_PIXELS
