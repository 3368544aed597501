from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from PIL import Image as PillowImage

from flamingo_eval.data.media import content_hash, media_exists, open_image, open_video, sample_times
from flamingo_eval.errors import MediaError
from flamingo_eval.records import Image, Pixels, Video


def checkered(width: int = 24, height: int = 16) -> PillowImage.Image:
    rows, columns = np.mgrid[:height, :width]
    return PillowImage.fromarray(np.stack([rows * 9, columns * 7, (rows + columns) * 3], axis=-1).astype(np.uint8))


def save(path: Path, picture: PillowImage.Image, **options: Any) -> Image:
    picture.save(path, **options)
    return Image(path)


def write_video(path: Path, seconds: float = 1.0, rate: int = 24, audio_only: bool = False, **options: str) -> Path:
    """A clip whose grey level tells the time: frame i has the value 8 * i, modulo 256."""
    with av.open(str(path), "w", options=options) as container:
        if audio_only:
            voice = container.add_stream("aac", rate=16000)
            sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            sound.sample_rate = 16000
            container.mux(voice.encode(sound))
            container.mux(voice.encode())
        else:
            stream = container.add_stream("mpeg4", rate=rate)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            stream.bit_rate = 4_000_000
            stream.time_base = Fraction(1, rate)
            for i in range(round(seconds * rate)):
                frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 8 * i % 256, np.uint8), format="rgb24")
                frame.pts = i
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
    return path


def levels(frames: list[PillowImage.Image]) -> list[int]:
    """Which frame of write_video each picture is (of the first 32)."""
    return [round(float(np.asarray(f).mean()) / 8) for f in frames]


# ------------------------------------------------------------------------------------------------------------ pictures


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "CMYK", "LA", "RGBA", "1"])
def test_every_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    suffix = "jpg" if mode == "CMYK" else "png"
    picture = open_image(save(tmp_path / f"a.{suffix}", checkered().convert(mode)))
    assert (picture.mode, picture.size) == ("RGB", (24, 16))


def test_rgb_pixels_come_as_stored(tmp_path: Path) -> None:
    picture = open_image(save(tmp_path / "a.png", checkered()))
    np.testing.assert_array_equal(np.asarray(picture), np.asarray(checkered()))


def test_sixteen_bits_are_scaled_not_clipped(tmp_path: Path) -> None:
    grey = PillowImage.fromarray(np.array([[0, 257 * 100, 65535]], np.uint16))
    picture = np.asarray(open_image(save(tmp_path / "a.png", grey)))
    assert picture[0, :, 0].tolist() == [0, 100, 255]


def test_transparency_lies_over_white(tmp_path: Path) -> None:
    clear = PillowImage.new("RGBA", (2, 1), (200, 0, 0, 0))
    clear.putpixel((1, 0), (10, 20, 30, 255))
    assert np.asarray(open_image(save(tmp_path / "a.png", clear))).tolist() == [[[255] * 3, [10, 20, 30]]]


def test_exif_rotation_is_applied(tmp_path: Path) -> None:
    exif = PillowImage.Exif()
    exif[0x0112] = 6  # stored lying on its side
    assert open_image(save(tmp_path / "a.jpg", checkered(), exif=exif)).size == (16, 24)


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_cut_picture_is_an_error(tmp_path: Path, suffix: str) -> None:
    noise = PillowImage.fromarray(np.random.default_rng(0).integers(0, 255, (128, 128, 3), np.uint8))
    image = save(tmp_path / f"a.{suffix}", noise)
    image.path.write_bytes(image.path.read_bytes()[: image.path.stat().st_size // 2])
    with pytest.raises(MediaError, match=rf"a\.{suffix}: .*(truncated|cut)"):
        open_image(image)


def test_unreadable_pictures_are_named_with_their_cause(tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "text.jpg").write_text("<html>404</html>")
    (tmp_path / "folder.jpg").mkdir()
    causes = {
        "empty.jpg": "the file is empty",
        "text.jpg": "a picture that Pillow can read",
        "folder.jpg": "is a folder",
        "gone.jpg": "no such file",
    }
    for name, cause in causes.items():
        with pytest.raises(MediaError, match=rf"{name}: .*{cause}"):
            open_image(Image(tmp_path / name))


def test_too_many_pixels_are_refused_before_decoding(tmp_path: Path) -> None:
    image = save(tmp_path / "bomb.png", PillowImage.new("1", (12000, 9000)))
    with pytest.raises(MediaError, match=r"bomb\.png: 12000 x 9000 is more than 89478485 pixels"):
        open_image(image)


# --------------------------------------------------------------------------------------------------------------- clips


def test_short_clips_give_fewer_frames_and_long_ones_their_middle() -> None:
    assert sample_times(1.0) == pytest.approx((0, 1 / 3, 2 / 3))
    assert sample_times(0.01) == (0.0,)
    assert len(sample_times(10.0)) == len(sample_times(60.0)) == 30
    assert sample_times(60.0)[0] == pytest.approx(25.0)
    assert sample_times(60.0, longer="start")[-1] == pytest.approx(29 / 3)
    assert sample_times(60.0, longer="spread")[:2] == pytest.approx((1.0, 3.0))
    assert sample_times(60.0, frames=8, fps=1.0)[-1] == pytest.approx(33.0)


def test_frames_are_those_on_screen(tmp_path: Path) -> None:
    video = Video(write_video(tmp_path / "a.mp4"))
    frames = open_video(video)
    assert levels(frames) == [0, 8, 16]
    assert {(f.mode, f.size) for f in frames} == {("RGB", (64, 48))}


def test_segment_and_rate_are_honoured(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", seconds=4.0, rate=8)
    assert levels(open_video(Video(path), frames=8, fps=1.0)) == [0, 8, 16, 24]
    assert levels(open_video(Video(path, 1.5, 2.5), fps=4.0)) == [12, 14, 16, 18]
    assert levels(open_video(Video(path, 3.0, 99.0), fps=2.0)) == [24, 28]
    assert levels(open_video(Video(path), frames=2, fps=4.0)) == [14, 16]


def test_segments_outside_the_clip_are_errors(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4")
    with pytest.raises(MediaError, match=r"a\.mp4: the segment starts at 5 s, the clip is 1 s long"):
        open_video(Video(path, 5.0, 6.0))
    with pytest.raises(MediaError, match="empty"):
        open_video(Video(path, 0.5, 0.5))


def test_a_file_as_long_as_its_segment_may_be_the_segment_itself(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", seconds=4.0, rate=8)
    assert levels(open_video(Video(path, 41.0, 45.0, maybe_cut=True), fps=1.0)) == [0, 8, 16, 24]
    long = write_video(tmp_path / "b.mp4", seconds=8.0, rate=4)
    assert levels(open_video(Video(long, 4.0, 8.0, maybe_cut=True), fps=1.0)) == [16, 20, 24, 28]
    with pytest.raises(MediaError, match="the segment starts at 41 s"):
        open_video(Video(long, 41.0, 45.0, maybe_cut=True))


def test_a_picture_may_be_a_cell_of_a_table(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    files = []
    for level in (10, 200):
        PillowImage.new("L", (8, 8), level).save(tmp_path / "a.png")
        files.append((tmp_path / "a.png").read_bytes())
    cells = [{"bytes": data, "path": None} for data in files] + [{"bytes": b"", "path": None}]
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"image": cells}), path, row_group_size=1)
    assert [open_image(Image(path, "image", row)).getpixel((0, 0)) for row in (1, 0)] == [(200,) * 3, (10,) * 3]
    assert content_hash(Image(path, "image", 1)) == content_hash(Image(tmp_path / "a.png"))
    for row in (2, 3):
        with pytest.raises(MediaError, match=r"rows\.parquet"):
            open_image(Image(path, "image", row))


def test_unreadable_clips_are_named(tmp_path: Path) -> None:
    whole = write_video(tmp_path / "whole.mp4", seconds=4.0, movflags="faststart")
    (tmp_path / "cut.mp4").write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    (tmp_path / "text.mp4").write_text("not a clip")
    (tmp_path / "empty.mp4").write_bytes(b"")
    write_video(tmp_path / "sound.mp4", audio_only=True)
    for name, cause in [
        ("cut.mp4", "cut|damaged|Invalid"),
        ("text.mp4", "Invalid data"),
        ("empty.mp4", "the file is empty"),
        ("sound.mp4", "no video stream"),
        ("gone.mp4", "no such file"),
    ]:
        with pytest.raises(MediaError, match=rf"{name}: .*({cause})"):
            open_video(Video(tmp_path / name))


def test_too_large_frames_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="64 x 48 is more than 100 pixels"):
        open_video(Video(write_video(tmp_path / "a.mp4")), max_pixels=100)


# ---------------------------------------------------------------------------------------------------- names and hashes


def test_hash_is_of_the_content(tmp_path: Path) -> None:
    a, b = save(tmp_path / "a.png", checkered()), save(tmp_path / "b.png", checkered())
    assert content_hash(a) == content_hash(b)
    save(a.path, checkered(25))
    os.utime(a.path, ns=(0, 1))
    assert content_hash(a) != content_hash(b)
    assert len({content_hash(Video(a.path)), content_hash(Video(a.path, 0, 1)), content_hash(a)}) == 3
    with pytest.raises(MediaError, match=r"gone\.png"):
        content_hash(Image(tmp_path / "gone.png"))


def test_hash_of_pixels_knows_their_shape() -> None:
    ones = torch.ones(3, 2, 4)
    assert content_hash(Pixels(ones)) == content_hash(Pixels(ones.clone()))
    assert content_hash(Pixels(ones)) != content_hash(Pixels(ones.view(3, 4, 2)))


def test_media_exists(tmp_path: Path) -> None:
    assert media_exists(save(tmp_path / "a.png", checkered()))
    assert not media_exists(Video(tmp_path / "gone.mp4"))
