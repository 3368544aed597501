"""Clips as cameras, phones and recorders write them: few frames, no index, cover art, mirrored, cut."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.packet import Packet
from av.video.stream import VideoStream
from numpy.typing import NDArray

from flamingo_eval.data.videos import open_video
from flamingo_eval.errors import MediaError
from flamingo_eval.records import Video
from tests.support.clips import number, picture, write_clip


def numbers(video: Video, **sampling: Any) -> list[int]:
    return [number(frame) for frame in open_video(video, **sampling)]


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "mov"])
def test_a_slide_show_shows_its_last_picture_to_the_end(tmp_path: Path, suffix: str) -> None:
    path = write_clip(tmp_path / f"a.{suffix}", [0.0, 4.0, 8.0], last=4.0)
    assert numbers(Video(path), fps=1.0) == [0] * 4 + [1] * 4 + [2] * 4
    assert numbers(Video(path, 9.0, 12.0), fps=1.0) == [2] * 3


def test_one_picture_may_be_a_clip(tmp_path: Path) -> None:
    assert numbers(Video(write_clip(tmp_path / "a.mp4", [0.0], last=5.0)), fps=1.0) == [0] * 5


def test_frames_of_variable_rate_are_those_on_screen(tmp_path: Path) -> None:
    begins = [0.0, 0.1, 0.2, 3.0, 3.05, 7.5]
    path = write_clip(tmp_path / "a.mp4", begins, last=2.5, reordered=False)
    assert numbers(Video(path), fps=1.0) == [0, 2, 2, 3, 4, 4, 4, 4, 5, 5]


def test_a_cut_slide_show_stays_refused(tmp_path: Path) -> None:
    whole = write_clip(tmp_path / "whole.mp4", [0.0, 4.0, 8.0], last=4.0, reordered=False)
    with (
        av.open(str(whole)) as source,
        av.open(str(tmp_path / "cut.mp4"), "w", options={"movflags": "faststart"}) as out,
    ):
        stream = out.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                out.mux(packet)
    data = (tmp_path / "cut.mp4").read_bytes()
    last = max(p.pos for p in _packets(tmp_path / "cut.mp4") if p.pos is not None)
    (tmp_path / "cut.mp4").write_bytes(data[:last])
    with pytest.raises(MediaError, match=r"cut\.mp4: .*(the file is truncated|damaged|Invalid)"):
        open_video(Video(tmp_path / "cut.mp4"))


def _packets(path: Path) -> list[Packet[VideoStream]]:
    with av.open(str(path)) as container:
        return [packet for packet in container.demux(video=0) if packet.size]


@pytest.mark.parametrize("suffix", ["mkv", "webm"])
def test_a_cut_matroska_file_is_refused_by_its_header(tmp_path: Path, suffix: str) -> None:
    codec = "libvpx" if suffix == "webm" else "libx264"
    path = write_clip(tmp_path / f"a.{suffix}", [i / 10 for i in range(100)], last=0.1, codec=codec)
    assert len(open_video(Video(path))) == 30
    data = path.read_bytes()
    for part in (0.3, 0.5, 0.8):
        path.write_bytes(data[: int(len(data) * part)])
        with pytest.raises(MediaError, match=rf"a\.{suffix}: .*(truncated|Invalid data)"):
            open_video(Video(path))


@pytest.mark.slow
@pytest.mark.parametrize(("suffix", "codec"), [("ts", "libx264"), ("mpg", "mpeg2video"), ("vob", "mpeg2video")])
def test_a_segment_of_a_container_without_an_index_shows_its_own_frames(
    tmp_path: Path, suffix: str, codec: str
) -> None:
    """Key frames five seconds apart: a seek that lands behind the wanted time must go further back."""
    path = write_clip(tmp_path / f"a.{suffix}", [i / 25 for i in range(25 * 20)], last=0.04, codec=codec, gop=125)
    for start in (0.0, 3.0, 4.96, 5.0, 9.4, 14.0):
        expected = [int((start + i / 3) * 25 + 1e-6) % 256 for i in range(6)]
        assert numbers(Video(path, start, start + 2.0)) == expected, start
    assert numbers(Video(path), fps=2.0, frames=4) == [int((9 + i / 2) * 25) % 256 for i in range(4)]


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["mpg", "vob"])
@pytest.mark.parametrize("n", [1, 5, 30, 700])
def test_a_program_stream_lasts_to_its_last_frame(tmp_path: Path, suffix: str, n: int) -> None:
    path = write_clip(tmp_path / f"a.{suffix}", [i / 25 for i in range(n)], last=0.04, codec="mpeg2video", gop=50)
    frames = numbers(Video(path), fps=5.0, frames=200)
    assert frames == [i * 5 % 256 for i in range((n + 4) // 5)]


def test_a_cover_picture_is_not_the_clip(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", [i / 10 for i in range(30)], last=0.1, cover=True)
    with av.open(str(path)) as container:
        assert len(container.streams.video) == 2
    assert numbers(Video(path), fps=1.0) == [0, 10, 20]


def test_a_sound_file_with_a_cover_has_no_video(tmp_path: Path) -> None:
    path = tmp_path / "a.m4a"
    with av.open(str(path), "w", format="mp4") as container:
        art = container.add_stream("mjpeg", rate=1)
        art.width, art.height, art.pix_fmt = 64, 48, "yuvj420p"
        art.disposition = av.stream.Disposition.attached_pic
        sound = container.add_stream("aac", rate=16000)
        frame = av.VideoFrame.from_ndarray(picture(3), format="rgb24").reformat(format="yuvj420p")
        for packet in (*art.encode(frame), *art.encode()):
            container.mux(packet)
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        silence.sample_rate = 16000
        for packet in (*sound.encode(silence), *sound.encode()):
            container.mux(packet)
    with pytest.raises(MediaError, match=r"a\.m4a: it has no video stream"):
        open_video(Video(path))


def test_a_bare_stream_is_named_with_what_to_do(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.h264", [i / 10 for i in range(10)], last=0.1)
    with pytest.raises(
        MediaError, match=r"a\.h264: it is a bare h264 stream.*ffmpeg -r RATE -i a\.h264 -c copy a\.mp4"
    ):
        open_video(Video(path))


Turn = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]
MATRICES: dict[str, tuple[tuple[int, int, int, int], Turn]] = {
    "none": ((1, 0, 0, 1), lambda shown: shown),
    "turned clockwise": ((0, 1, -1, 0), lambda shown: np.rot90(shown, -1)),
    "turned counterclockwise": ((0, -1, 1, 0), np.rot90),
    "upside down": ((-1, 0, 0, -1), lambda shown: np.rot90(shown, 2)),
    "mirrored": ((-1, 0, 0, 1), lambda shown: shown[:, ::-1]),
    "flipped": ((1, 0, 0, -1), lambda shown: shown[::-1]),
    "transposed": ((0, 1, 1, 0), lambda shown: shown.swapaxes(0, 1)),
    "transverse": ((0, -1, -1, 0), lambda shown: np.rot90(shown, 2).swapaxes(0, 1)),
}


@pytest.mark.parametrize("name", MATRICES)
def test_display_matrices_turn_and_mirror(tmp_path: Path, name: str) -> None:
    path = write_clip(tmp_path / "a.mp4", [0.0, 0.5], last=0.5)
    plain = np.asarray(open_video(Video(path))[0])
    (a, b, c, d), expected = MATRICES[name]
    data = path.read_bytes()
    track = data.index(b"tkhd") + 4 + 40  # the matrix of the track header, version 0
    one = 0x10000
    matrix = struct.pack(">9i", a * one, b * one, 0, c * one, d * one, 0, 0, 0, 0x40000000)
    path.write_bytes(data[:track] + matrix + data[track + 36 :])
    np.testing.assert_array_equal(np.asarray(open_video(Video(path))[0]), expected(plain))
