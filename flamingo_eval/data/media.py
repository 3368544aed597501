"""Content hashes of pictures and clips, the keys of caches. images.py and videos.py decode them."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

from flamingo_eval.data.images import open_image
from flamingo_eval.data.media_files import unreadable, why_missing
from flamingo_eval.data.parquet import cell_bytes
from flamingo_eval.data.videos import open_video, sample_times
from flamingo_eval.records import Image, Media, Pixels

__all__ = ["content_hash", "media_exists", "open_image", "open_video", "sample_times"]


def media_exists(media: Media) -> bool:
    """Whether the file of a picture or clip exists; it is not opened."""
    return not why_missing(media.path) and media.path.is_file()


def content_hash(media: Media | Pixels) -> str:
    """sha256 (hex) of the content: the file's bytes and, for a clip, its segment; for Pixels, values and shape."""
    if isinstance(media, Pixels):
        values = media.tensor.detach().cpu().float().contiguous().numpy()
        return hashlib.sha256(repr(values.shape).encode() + values.tobytes()).hexdigest()
    try:
        if isinstance(media, Image) and media.column:
            return hashlib.sha256(cell_bytes(media.path, media.column, media.row)).hexdigest()
        stat = media.path.stat()
        digest = _file_hash(media.path, stat.st_size, stat.st_mtime_ns)
    except (OSError, ValueError) as error:
        cause = why_missing(media.path) or getattr(error, "strerror", None) or str(error)
        place = f"row {media.row + 1}" if isinstance(media, Image) and media.column else ""
        raise unreadable(media.path, cause, place=place) from error
    if isinstance(media, Image):
        return digest
    return hashlib.sha256(f"{digest}:{media.start!r}:{media.end!r}".encode()).hexdigest()


@lru_cache(maxsize=65_536)
def _file_hash(path: Path, size: int, mtime_ns: int) -> str:
    """Hash of a file, cached by size and modification time: segments of one long clip read it once."""
    del size, mtime_ns  # only part of the cache key
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
