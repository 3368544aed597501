"""Clips whose frames show their number, and how to read it."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.packet import Packet
from av.video.stream import VideoStream
from PIL import Image as PillowImage


def picture(level: int) -> np.ndarray:
    """64 x 48, eight bars that are white where the number's bit is 1: readable after any codec."""
    bars = [255 if level >> bit & 1 else 0 for bit in range(8)]
    return np.repeat(np.repeat(np.array(bars, np.uint8)[None, :, None], 8, axis=1), 48, axis=0).repeat(3, axis=2)


def number(image: PillowImage.Image) -> int:
    """The number that a frame shows."""
    green = np.asarray(image)[24, :, 1]
    return sum(1 << bit for bit in range(8) if green[8 * bit + 4] > 127)


def write_clip(
    path: Path,
    begins: Sequence[float],
    last: float,
    codec: str = "libx264",
    gop: int = 250,
    reordered: bool = True,
    cover: bool = False,
    **options: str,
) -> Path:
    """A clip whose i-th frame shows the number i modulo 256 from begins[i] (seconds) on; the last one for `last`."""
    with av.open(str(path), "w") as container:
        if cover:
            art = container.add_stream("mjpeg", rate=1)
            art.width, art.height, art.pix_fmt = 64, 48, "yuvj420p"
            art.disposition = av.stream.Disposition.attached_pic
        stream = container.add_stream(codec, rate=25, options=options)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = 64, 48, "yuv420p", gop
        stream.bit_rate = 2_000_000
        if not reordered:
            stream.codec_context.max_b_frames = 0
        rate = 25 if codec == "mpeg2video" else 1000
        stream.codec_context.time_base = Fraction(1, rate)
        if cover:
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 90, np.uint8), format="rgb24")
            for packet in (*art.encode(frame.reformat(format="yuvj420p")), *art.encode()):
                container.mux(packet)
        lengths: dict[int, int] = {}

        def mux(packets: list[Packet[VideoStream]]) -> None:
            for packet in packets:
                assert packet.pts is not None
                packet.duration = lengths[round(packet.pts * packet.time_base * rate)]
                container.mux(packet)

        ends = [*begins[1:], begins[-1] + last]
        for i, (begin, end) in enumerate(zip(begins, ends, strict=True)):
            frame = av.VideoFrame.from_ndarray(picture(i % 256), format="rgb24")
            frame.pts, frame.time_base = round(begin * rate), Fraction(1, rate)
            lengths[frame.pts] = round((end - begin) * rate)
            mux(stream.encode(frame))
        mux(stream.encode())
    return path
