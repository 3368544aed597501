"""Clips on disk -> frames, with PyAV: chooses the times and decodes the frames on screen at these times.

A file that ends before the duration in its header is a MediaError; missing frames are never replaced.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import av
from av.sidedata.sidedata import Type as SideData
from av.stream import Disposition
from PIL import Image as PillowImage

from flamingo_eval.data.media_files import file_size, too_large, unreadable
from flamingo_eval.records import Video

MAX_FRAME_PIXELS = 8192 * 4320  # 8K video
TRUNCATION_SLACK = 1.0  # seconds by which the last frame of a valid clip may be earlier than the end in its header
CUT_SLACK = 2.0  # seconds by which a cut clip may differ from the annotated window
SEEK_BACK = (
    0.0,
    2.0,
    10.0,
    40.0,
)  # seconds before the first time; finally, decoding starts at the beginning of the file

LongerClips = Literal["centre", "start", "spread"]

PROGRAM_STREAM = "mpeg"  # FFmpeg's name of MPEG-PS, VOB included
_NOT_THE_FILM = Disposition.attached_pic | Disposition.timed_thumbnails  # cover art, previews
_BARE_STREAMS = ("h264", "hevc", "vvc", "m4v", "mpegvideo", "av1", "obu", "vc1", "cavsvideo", "dirac", "h263", "h261")


def sample_times(
    duration: float, frames: int = 30, fps: float = 3.0, longer: LongerClips = "centre"
) -> tuple[float, ...]:
    """The times, in seconds, for a clip of `duration` seconds: `fps` per second, at most `frames`.

    Shorter clips give fewer frames, at least one; no frame is repeated. For clips longer than frames / fps the paper
    does not say which part it uses (Flamingo v2 B.1.2); `longer` is "centre" (the middle part), "start", or "spread"
    (all of it, at a lower rate).
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

    A segment that ends after the file is shortened. Raises MediaError.
    """
    return _sampled(video, lambda duration: sample_times(duration, frames, fps, longer), max_pixels)[0]


def frames_of(video: Video, n: int) -> list[PillowImage.Image]:
    """Exactly `n` frames spread over a clip, at most 3 a second; for a short clip, some are repeated."""
    frames = open_video(video, n, longer="spread")
    return [frames[min(i * len(frames) // n, len(frames) - 1)] for i in range(n)]


def spread_frames(
    video: Video, frames: int, max_pixels: int = MAX_FRAME_PIXELS
) -> tuple[list[PillowImage.Image], float]:
    """Exactly `frames` frames, each from the middle of an equal part of the clip or its segment, and its seconds.

    Raises MediaError.
    """
    return _sampled(video, lambda duration: [(i + 0.5) * duration / frames for i in range(frames)], max_pixels)


def _sampled(
    video: Video, times_of: Callable[[float], Sequence[float]], max_pixels: int
) -> tuple[list[PillowImage.Image], float]:
    """The frames on screen at the times that `times_of` chooses from the seconds of the clip, and these seconds."""
    if file_size(video.path) == 0:
        raise unreadable(video.path, "the file is empty")
    try:
        with av.open(str(video.path), metadata_errors="replace") as container:
            stream = _film(container, video.path)
            if stream.width * stream.height > max_pixels:
                raise unreadable(video.path, too_large(stream.width, stream.height, max_pixels))
            start, end = _segment(video, _duration(container, stream, video.path))
            times = [start + t for t in times_of(end - start)]
            return _frames_at(container, stream, times, video.path), end - start
    except (av.FFmpegError, EOFError) as error:
        raise unreadable(video.path, _cause(error)) from error


def has_segment(video: Video, max_pixels: int = MAX_FRAME_PIXELS) -> bool:
    """Whether a clip's file has a film that holds its segment, from the index alone: no frame is decoded.

    False where only decoding tells: program streams do not say how long they are. Raises MediaError, FFmpegError.
    """
    with av.open(str(video.path), metadata_errors="replace") as container:
        stream = _film(container, video.path)
        if container.format.name == PROGRAM_STREAM or stream.width * stream.height > max_pixels:
            return False
        _segment(video, _duration(container, stream, video.path))
        return True


def _cause(error: Exception) -> str:
    """FFmpeg's message, if it is useful: its own codes appear as errors of the operating system."""
    text = getattr(error, "strerror", None) or str(error)
    misleading = {"Operation not permitted", "End of file", ""}
    return "the file is truncated or damaged" if text in misleading else text


def _film(container: Any, path: Path) -> Any:
    """The best video stream, ignoring cover art and thumbnails."""
    films = [s for s in container.streams.video if not s.disposition & _NOT_THE_FILM]
    if not films:
        raise unreadable(path, "it has no video stream")
    best = container.streams.best("video")
    stream = best if best in films else films[0]
    if stream.codec_context is None:
        raise unreadable(path, "unknown codec")
    return stream


def _duration(container: Any, stream: Any, path: Path) -> float:
    """Seconds from the first frame to the end of the last, from the header or, if it has none, from the packets.

    Program streams (.mpg, .vob) say it nowhere, and not every packet of theirs has a time: there the last frames are
    decoded.
    """
    if container.format.name == PROGRAM_STREAM:
        return _decoded_end(container, stream, path)
    if stream.duration:
        return float(stream.duration * stream.time_base)
    film_end = whole_end = None  # of this stream in its own units; of all streams in seconds
    for packet in container.demux():
        if packet.pts is None:
            continue
        ends = packet.pts + (packet.duration or 0)
        if packet.stream_index == stream.index:
            film_end = ends if film_end is None else max(film_end, ends)
        whole_end = max(whole_end or 0.0, float(ends * packet.time_base))
    if film_end is None or whole_end is None:
        name = container.format.name
        if name in _BARE_STREAMS:
            fix = f"Put it into a container: ffmpeg -r RATE -i {path.name} -c copy {path.stem}.mp4."
            raise unreadable(path, f"it is a bare {name} stream, which does not say when its frames are shown", fix)
        raise unreadable(path, "its video stream has no frames")
    container.seek(0)
    begin = (container.start_time or 0) / av.time_base
    if container.duration and container.duration / av.time_base - (whole_end - begin) > TRUNCATION_SLACK:
        header_text = f"{container.duration / av.time_base:.1f} s"
        raise unreadable(
            path, f"it ends at {whole_end - begin:.1f} s, its header says {header_text}: the file is truncated"
        )
    return float((film_end - (stream.start_time or 0)) * stream.time_base)


def _decoded_end(container: Any, stream: Any, path: Path) -> float:
    """Seconds to the end of the last frame, by decoding from near the end of the file, or all of it."""
    offset = float((stream.start_time or 0) * stream.time_base)
    estimate = float((stream.duration or 0) * stream.time_base)
    rate = stream.average_rate
    for back in (10.0, 40.0, math.inf):  # a time comes at least every 0.7 s: by the end, those of the frames are right
        to = max(estimate - back, 0.0)
        container.seek(
            int((to + offset) / stream.time_base) if to else min(container.start_time or 0, 0), stream=stream
        )
        begins, ends = [], []
        for frame, begin in _decoded(container, stream, offset):
            begins.append(begin)
            ends.append(begin + (float(frame.duration * frame.time_base) or (float(1 / rate) if rate else 0.0)))
        if ends or not to:
            break
    container.seek(min(container.start_time or 0, 0))
    if not ends:
        raise unreadable(path, "no frame could be decoded")
    return max(ends) - (0.0 if stream.start_time is not None or to else min(begins))


def _segment(video: Video, duration: float) -> tuple[float, float]:
    if video.maybe_cut and _is_cut(video.start or 0.0, video.end or duration, duration):
        return 0.0, duration
    start = 0.0 if video.start is None else video.start
    end = duration if video.end is None else min(video.end, duration)
    if not 0 <= start < duration:
        raise unreadable(video.path, f"the segment starts at {start:g} s, the clip is {duration:g} s long")
    if end <= start:
        raise unreadable(video.path, f"the segment from {start:g} s to {video.end:g} s is empty")
    return start, end


def _is_cut(start: float, end: float, duration: float) -> bool:
    """Whether the file is the segment itself, not the video it was cut from."""
    return duration < end - CUT_SLACK / 2 and abs(duration - (end - start)) <= CUT_SLACK


def _frames_at(container: Any, stream: Any, times: list[float], path: Path) -> list[PillowImage.Image]:
    """For each time (ascending, seconds), the last frame that starts at or before it, or the first frame.

    Seeking in containers without an index (MPEG-TS, MPEG-PS, VOB) is not exact: if decoding starts after the first
    time, it is repeated from further back.
    """
    offset = float((stream.start_time or 0) * stream.time_base)
    for seconds_back in SEEK_BACK:
        if times[0] - seconds_back <= 0:
            break
        container.seek(
            int((times[0] - seconds_back + offset) / stream.time_base), stream=stream
        )  # to the key frame before it
        pictures = _decode_from_here(container, stream, offset, times, path, after_seek=True)
        if pictures is not None:
            return pictures
    if times[0] > 0:
        container.seek(min(container.start_time or 0, 0))
    pictures = _decode_from_here(container, stream, offset, times, path, after_seek=False)
    assert pictures is not None
    return pictures


def _decode_from_here(
    container: Any, stream: Any, offset: float, times: list[float], path: Path, after_seek: bool
) -> list[PillowImage.Image] | None:
    """The frames at `times`, decoded from the container's present position.

    None, after a seek, if there is no key frame at or before the first time: the frames would be later ones, or decoded
    without their reference frames.
    """
    pictures: list[PillowImage.Image] = []
    current, start = None, 0.0
    has_key = not after_seek
    for frame, begins in _decoded(container, stream, offset):
        if not has_key and begins > times[0]:
            return None
        has_key = has_key or frame.key_frame
        while len(pictures) < len(times) and current is not None and times[len(pictures)] < begins:
            pictures.append(_picture(current, path))
        if len(pictures) == len(times):
            return pictures
        current, start = frame, begins
    if current is None:
        if after_seek:
            return None
        raise unreadable(path, "no frame could be decoded")
    ends = start + float((current.duration or 0) * (current.time_base or 0))
    if times[-1] - ends > TRUNCATION_SLACK and times[-1] - _packets_last(container, stream) > TRUNCATION_SLACK:
        raise unreadable(
            path, f"it ends at {ends:.1f} s, a frame at {times[-1]:.1f} s was expected: the file is truncated"
        )
    return pictures + [_picture(current, path)] * (len(times) - len(pictures))


def _packets_last(container: Any, stream: Any) -> float:
    """Duration of the stream's packets in seconds, in stored order.

    If the stored order differs from the display order, durations are those of the stored order.
    """
    container.seek(min(container.start_time or 0, 0))
    packets = [p for p in container.demux(stream) if p.dts is not None and p.size]
    if not packets:
        return 0.0
    return float((max(p.dts + (p.duration or 0) for p in packets) - min(p.dts for p in packets)) * stream.time_base)


def _decoded(container: Any, stream: Any, offset: float) -> Iterator[tuple[Any, float]]:
    """Frames in display order, with their start times in seconds from the start of the clip."""
    for frame in container.decode(stream):
        if frame.time is not None:
            yield frame, frame.time - offset - 1e-6  # 1/3 s, rounded, must not fall before the frame that begins there


# Display matrices that mirror, by the signs of their entries a, b, c, d: a point (x, y) goes to (ax + cy, bx + dy).
_MIRRORED = {
    (-1, 0, 0, 1): PillowImage.Transpose.FLIP_LEFT_RIGHT,
    (1, 0, 0, -1): PillowImage.Transpose.FLIP_TOP_BOTTOM,
    (0, 1, 1, 0): PillowImage.Transpose.TRANSPOSE,
    (0, -1, -1, 0): PillowImage.Transpose.TRANSVERSE,
}


def _picture(frame: Any, path: Path) -> PillowImage.Image:
    if frame.is_corrupt:
        raise unreadable(path, f"the frame at {frame.time:.2f} s is damaged")
    picture: PillowImage.Image = frame.to_image()
    matrix = frame.side_data.get(SideData.DISPLAYMATRIX)
    mirror = _mirror(bytes(matrix)) if matrix is not None else None
    if mirror is not None:
        return picture.transpose(mirror)
    return picture.rotate(frame.rotation, expand=True) if frame.rotation else picture


def _mirror(matrix: bytes) -> PillowImage.Transpose | None:
    """The transpose operation for a display matrix (nine 32-bit numbers, 16.16 fixed point) that mirrors, or None."""
    a, b, _, c, d, *_ = struct.unpack("=9i", matrix)
    largest = max(abs(v) for v in (a, b, c, d))
    return _MIRRORED.get(tuple(round(v / largest) for v in (a, b, c, d))) if largest else None
