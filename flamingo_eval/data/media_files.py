"""Files of pictures and clips before decoding: existence, size, and names in messages."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

from flamingo_eval.errors import MediaError

MAX_NAME_BYTES = 255  # of one file name, on nearly every file system
SHOWN_NAME = 60  # characters of a file name in a message
_ENCODED = re.compile(r"data:[a-z]+/|/?9j/[A-Za-z0-9+/]{8}|iVBORw0KGgo|R0lGOD|UklGR")  # JPEG, PNG, GIF, WebP in base64
ENCODED_FIX = "A file name is expected here; pictures as bytes belong in a Parquet table."


def file_size(path: Path) -> int:
    """Bytes of a picture's or clip's file. Raises MediaError if there is no such file, with the likely reason."""
    cause = why_missing(path)
    if cause:
        raise unreadable(path, cause)
    try:
        if path.is_dir():
            raise unreadable(path, "it is a folder")
        return path.stat().st_size
    except OSError as error:
        raise unreadable(path, error.strerror or str(error)) from error


def why_missing(path: Path) -> str:
    """Why a file does not exist, or the empty string if it does; it is not opened."""
    try:
        path.stat()
        return ""
    except ValueError:  # a null byte
        return "its name contains a null byte"
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG):
            return error.strerror or str(error)
        if _ENCODED.match(path.name) or _ENCODED.search(str(path)):
            return f"expected a file name, got encoded data (base64). {ENCODED_FIX}"
        longest = max((len(os.fsencode(part)) for part in path.parts), default=0)
        if longest > MAX_NAME_BYTES:
            return f"a file name has at most {MAX_NAME_BYTES} bytes, this one has {longest}. {ENCODED_FIX}"
        if error.errno == errno.ENAMETOOLONG:
            return error.strerror or "its name is too long"
        return "there is no such file" if path.suffix else "there is no such file, with or without a suffix"


def short_path(path: Path) -> str:
    """A path for a message: names of more than 60 characters are shortened, with their length."""
    parts = [part if len(part) <= SHOWN_NAME else f"{part[:40]}... ({len(part)} characters)" for part in path.parts]
    text = str(Path(*parts)) if parts else str(path)
    return text if len(text) <= 10 * SHOWN_NAME else f"{text[:200]}... ({len(str(path))} characters)"


def too_large(width: int, height: int, limit: int) -> str:
    """The cause for a picture that is too large."""
    return f"{width} x {height} is more than {limit} pixels"


def unreadable(path: Path, cause: str, fix: str = "", place: str = "") -> MediaError:
    """The error for one file; `place` names a cell of a table."""
    where = f"{short_path(path)}, {place}" if place else short_path(path)
    return MediaError(f"{where}: {cause.rstrip('.')}. {fix}".rstrip())
