"""Media on disk -> pixels: pictures through Pillow, clips through PyAV. Nothing is decoded before a model asks for it.

Whatever cannot be shown as it was meant (cut, empty, not a picture, too large) is a MediaError that names the file and
the cause; a cut picture is never filled up with grey.
"""

from __future__ import annotations

import hashlib
import io
import math
import struct
import warnings
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import av
import numpy as np
from PIL import Image as PillowImage
from PIL import ImageOps, UnidentifiedImageError

from flamingo_eval.data.parquet import cell_bytes
from flamingo_eval.errors import MediaError
from flamingo_eval.records import Image, Media, Pixels, Video

MAX_PIXELS = 89_478_485  # a quarter of a GiB as RGB, where Pillow begins to warn of decompression bombs
MAX_FRAME_PIXELS = 8192 * 4320  # 8K video
TRUNCATION_SLACK = 1.0  # seconds by which the last frame of a sound clip may fall short of what its header says
CUT_SLACK = 2.0  # seconds by which a clip cut out of a video may differ from the annotated window

LongerClips = Literal["centre", "start", "spread"]

# What Pillow's decoders raise on broken files; UnidentifiedImageError and "image file is truncated" are OSErrors.
_BROKEN_PICTURE = (OSError, SyntaxError, ValueError, EOFError, struct.error, IndexError)

# ------------------------------------------------------------------------------------------------------------ pictures


def open_image(image: Image, max_pixels: int = MAX_PIXELS) -> PillowImage.Image:
    """The picture in RGB, upright by its EXIF mark; of an animation, the first frame.

    Transparent pixels are laid over white; 16-bit values are scaled to 8 bits. Raises MediaError.
    """
    size = _size_on_disk(image.path)
    if size == 0:
        raise _unreadable(image.path, "the file is empty")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PillowImage.DecompressionBombWarning)  # it is an error below
            opened = PillowImage.open(_cell(image) if image.column else image.path)
        with opened:
            if opened.width * opened.height > max_pixels:
                raise _unreadable(image.path, _too_large(opened.width, opened.height, max_pixels))
            opened.load()
            return _to_rgb(ImageOps.exif_transpose(opened), image.path)
    except UnidentifiedImageError as error:
        raise _unreadable(image.path, "this is no picture that Pillow knows") from error
    except PillowImage.DecompressionBombError as error:
        raise _unreadable(image.path, f"more than {max_pixels} pixels") from error
    except _BROKEN_PICTURE as error:
        raise _unreadable(image.path, str(error) or type(error).__name__) from error


def _cell(image: Image) -> io.BytesIO:
    """The bytes of a picture that lies in a table."""
    return io.BytesIO(cell_bytes(image.path, image.column, image.row))


def _to_rgb(picture: PillowImage.Image, path: Path) -> PillowImage.Image:
    mode = picture.mode
    if mode.startswith("I"):  # 16-bit greyscale, which convert("RGB") would clip to white
        values = np.asarray(picture).astype(np.int64)
        if values.min(initial=0) < 0 or values.max(initial=0) > 0xFFFF:
            raise _unreadable(path, "its grey values do not fit 16 bits")
        return PillowImage.fromarray(((values + 128) // 257).astype(np.uint8)).convert("RGB")
    if mode == "F":
        raise _unreadable(path, "its grey values are floating-point numbers without a known white")
    if picture.has_transparency_data:
        layer = picture.convert("RGBA")
        white = PillowImage.new("RGBA", layer.size, (255, 255, 255, 255))
        return PillowImage.alpha_composite(white, layer).convert("RGB")
    return picture.convert("RGB")


# --------------------------------------------------------------------------------------------------------------- clips


def sample_times(
    duration: float, frames: int = 30, fps: float = 3.0, longer: LongerClips = "centre"
) -> tuple[float, ...]:
    """When to look at a clip of `duration` seconds: `fps` times a second, at most `frames` times (seconds).

    Shorter clips give fewer frames, at least one; no frame is shown twice. Of longer clips than frames / fps the paper
    does not say what it takes (Flamingo v2 B.1.2); `longer` is "centre" (the middle piece), "start", or "spread" (all
    of it, at a lower rate).
    """
    if frames < 1 or fps <= 0:
        raise ValueError("frames must be at least 1 and fps above 0")
    n_whole = max(1, math.ceil(duration * fps - 1e-6))
    if n_whole <= frames:
        return tuple(i / fps for i in range(n_whole))
    if longer == "spread":
        return tuple((i + 0.5) * duration / frames for i in range(frames))
    first = (duration - frames / fps) / 2 if longer == "centre" else 0.0
    return tuple(first + i / fps for i in range(frames))


def open_video(
    video: Video,
    frames: int = 30,
    fps: float = 3.0,
    longer: LongerClips = "centre",
    max_pixels: int = MAX_FRAME_PIXELS,
) -> list[PillowImage.Image]:
    """The frames on screen at `sample_times` of the clip or its segment, in RGB and upright; 1 to `frames` of them.

    A segment that ends after the file does is cut there. Raises MediaError.
    """
    if _size_on_disk(video.path) == 0:
        raise _unreadable(video.path, "the file is empty")
    try:
        with av.open(str(video.path), metadata_errors="replace") as container:
            if not container.streams.video:
                raise _unreadable(video.path, "it has no video stream")
            stream = container.streams.video[0]
            if stream.codec_context is None:
                raise _unreadable(video.path, "its codec is not known")
            if stream.width * stream.height > max_pixels:
                raise _unreadable(video.path, _too_large(stream.width, stream.height, max_pixels))
            start, end = _segment(video, _duration(container, stream, video.path))
            times = [start + t for t in sample_times(end - start, frames, fps, longer)]
            return _frames_at(container, stream, times, video.path)
    except (av.FFmpegError, EOFError) as error:
        raise _unreadable(video.path, getattr(error, "strerror", None) or str(error) or "cannot be decoded") from error


def _duration(container: Any, stream: Any, path: Path) -> float:
    """Seconds from the first frame to the end of the last, from the header or, where it is silent, from the packets."""
    if stream.duration:
        return float(stream.duration * stream.time_base)
    ends = [p.pts + (p.duration or 0) for p in container.demux(stream) if p.pts is not None]
    if not ends:
        raise _unreadable(path, "its video stream holds no frames")
    container.seek(0)
    return float((max(ends) - (stream.start_time or 0)) * stream.time_base)


def _segment(video: Video, duration: float) -> tuple[float, float]:
    if video.maybe_cut and _is_cut(video.start or 0.0, video.end or duration, duration):
        return 0.0, duration
    start = 0.0 if video.start is None else video.start
    end = duration if video.end is None else min(video.end, duration)
    if not 0 <= start < duration:
        raise _unreadable(video.path, f"the segment starts at {start:g} s, the clip is {duration:g} s long")
    if end <= start:
        raise _unreadable(video.path, f"the segment from {start:g} s to {video.end:g} s is empty")
    return start, end


def _is_cut(start: float, end: float, duration: float) -> bool:
    """Is the file the segment itself, rather than the video it was cut from?"""
    return duration < end - CUT_SLACK / 2 and abs(duration - (end - start)) <= CUT_SLACK


def _frames_at(container: Any, stream: Any, times: list[float], path: Path) -> list[PillowImage.Image]:
    """For each time (ascending, seconds), the last frame that begins at or before it; the first one before that."""
    offset = float((stream.start_time or 0) * stream.time_base)
    if times[0] > 0:
        container.seek(int((times[0] + offset) / stream.time_base), stream=stream)  # to the key frame before it
    shown: list[PillowImage.Image] = []
    current, began = None, 0.0
    for frame, begins in _decoded(container, stream, offset):
        while len(shown) < len(times) and current is not None and times[len(shown)] < begins:
            shown.append(_picture(current, path))
        if len(shown) == len(times):
            return shown
        current, began = frame, begins
    if current is None:
        raise _unreadable(path, "no frame could be decoded")
    if times[-1] - began > TRUNCATION_SLACK:
        raise _unreadable(path, f"it ends at {began:.1f} s, a frame at {times[-1]:.1f} s was expected: the file is cut")
    return shown + [_picture(current, path)] * (len(times) - len(shown))


def _decoded(container: Any, stream: Any, offset: float) -> Iterator[tuple[Any, float]]:
    """Frames in order of showing, and when each begins, in seconds from the start of the clip."""
    for frame in container.decode(stream):
        if frame.time is not None:
            yield frame, frame.time - offset - 1e-6  # 1/3 s, rounded, must not fall before the frame that begins there


def _picture(frame: Any, path: Path) -> PillowImage.Image:
    if frame.is_corrupt:
        raise _unreadable(path, f"the frame at {frame.time:.2f} s is damaged")
    picture: PillowImage.Image = frame.to_image()
    return picture.rotate(frame.rotation, expand=True) if frame.rotation else picture


# ---------------------------------------------------------------------------------------------------- names and hashes


def media_exists(media: Media) -> bool:
    """Whether the file of a picture or clip is there; nothing is opened."""
    return media.path.is_file()


def content_hash(media: Media | Pixels) -> str:
    """sha256 (hex) of what is shown: the file's bytes and, for a clip, its segment; of pixels, values and shape."""
    if isinstance(media, Pixels):
        values = media.tensor.detach().cpu().float().contiguous().numpy()
        return hashlib.sha256(repr(values.shape).encode() + values.tobytes()).hexdigest()
    try:
        if isinstance(media, Image) and media.column:
            return hashlib.sha256(cell_bytes(media.path, media.column, media.row)).hexdigest()
        stat = media.path.stat()
        digest = _file_hash(media.path, stat.st_size, stat.st_mtime_ns)
    except OSError as error:
        raise _unreadable(media.path, error.strerror or str(error)) from error
    if isinstance(media, Image):
        return digest
    return hashlib.sha256(f"{digest}:{media.start!r}:{media.end!r}".encode()).hexdigest()


@lru_cache(maxsize=65_536)
def _file_hash(path: Path, size: int, mtime_ns: int) -> str:
    """Remembered by size and time of change: segments of one long clip read it once."""
    del size, mtime_ns  # only part of the key
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _size_on_disk(path: Path) -> int:
    try:
        if path.is_dir():
            raise _unreadable(path, "it is a folder")
        return path.stat().st_size
    except FileNotFoundError as error:
        raise _unreadable(path, "there is no such file") from error
    except OSError as error:
        raise _unreadable(path, error.strerror or str(error)) from error


def _too_large(width: int, height: int, limit: int) -> str:
    return f"{width} x {height} is more than {limit} pixels"


def _unreadable(path: Path, cause: str) -> MediaError:
    return MediaError(f"{path}: {cause}.")
