"""A picture or clip is known to be whole by its structure; where that leaves a doubt, it is decoded."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image as PillowImage

from flamingo_eval.data import check, videos
from flamingo_eval.data.check import unreadable_media
from flamingo_eval.data.images import open_image
from flamingo_eval.data.whole_files import looks_whole
from flamingo_eval.records import Image, Video
from tests.support.clips import write_clip


def saved(path: Path, mode: str = "RGB") -> Path:
    PillowImage.effect_noise((64, 48), 60).convert(mode).save(path)
    return path


NAMES = ("a.jpg", "a.png", "a.gif", "a.webp", "a.bmp", "a.tif", "a.avif", "a.jp2")


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_whole_file_is_told_from_one_cut_anywhere(tmp_path: Path, name: str) -> None:
    path = saved(tmp_path / name)
    whole = path.read_bytes()
    assert looks_whole(Image(path))
    for size in (*range(0, len(whole) - 100, 61), *range(max(0, len(whole) - 100), len(whole))):
        path.write_bytes(whole[:size])
        if looks_whole(Image(path)):  # nothing that is shown was lost
            assert open_image(Image(path)).size == (64, 48)
            assert size > len(whole) - 10


@pytest.mark.parametrize("name", NAMES)
def test_a_file_with_bytes_behind_its_end_is_whole(tmp_path: Path, name: str) -> None:
    path = saved(tmp_path / name)
    path.write_bytes(path.read_bytes() + bytes(7))
    assert looks_whole(Image(path))
    assert open_image(Image(path)).size == (64, 48)


def test_the_end_of_a_thumbnail_is_not_that_of_its_picture(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.jpg")
    whole = path.read_bytes()
    thumbnail = b"\xff\xe1" + (len(whole) + 2).to_bytes(2, "big") + whole
    path.write_bytes((whole[:2] + thumbnail + whole[2:])[:-10])
    assert not looks_whole(Image(path))
    assert unreadable_media([Image(path)], decode=False)


def test_what_cannot_be_told_by_its_structure_is_left_to_the_decoder(tmp_path: Path) -> None:
    assert not looks_whole(Image(saved(tmp_path / "a.tif", "F")))
    assert not looks_whole(Image(saved(tmp_path / "a.ppm")))
    assert not looks_whole(Image(tmp_path / "missing.jpg"))
    assert not looks_whole(Video(tmp_path / "clip.mp4"))


CLIPS = {"mp4": "libx264", "mov": "libx264", "mkv": "libx264", "webm": "libvpx", "avi": "mpeg4"}


@pytest.fixture(params=CLIPS)
def clip(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    suffix = request.param
    return write_clip(tmp_path / f"a.{suffix}", [i / 10 for i in range(40)], last=0.1, codec=CLIPS[suffix])


def test_a_clip_cut_anywhere_is_not_whole(clip: Path) -> None:
    assert looks_whole(Video(clip))
    whole = clip.read_bytes()
    for size in range(0, len(whole), max(1, len(whole) // 40)):
        clip.write_bytes(whole[:size])
        assert not looks_whole(Video(clip)), size


def test_a_segment_that_a_clip_does_not_hold_is_found_without_decoding(clip: Path) -> None:
    assert looks_whole(Video(clip, 1.0, 3.0))
    assert not looks_whole(Video(clip, 60.0, 63.0))
    (problem,) = unreadable_media([Video(clip, 60.0, 63.0), Video(clip, 1.0, 3.0)], decode=False)
    assert "the segment starts at 60 s" in problem.what


@pytest.mark.parametrize(("suffix", "codec"), [("mpg", "mpeg2video"), ("ts", "libx264")])
def test_a_container_without_a_length_is_left_to_the_decoder(tmp_path: Path, suffix: str, codec: str) -> None:
    clip = write_clip(tmp_path / f"a.{suffix}", [i / 25 for i in range(40)], last=0.04, codec=codec)
    assert not looks_whole(Video(clip))
    assert unreadable_media([Video(clip)], decode=False) == []


def test_a_whole_clip_is_not_decoded_before_a_run(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError(f"{clip} is decoded")

    monkeypatch.setattr(videos, "open_video", never)
    assert unreadable_media([Video(clip)], decode=False) == []


def test_whole_pictures_are_not_decoded_before_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(image: Image) -> None:
        raise AssertionError(f"{image.path} is decoded")

    monkeypatch.setattr(check, "open_image", never)
    pictures = [Image(saved(tmp_path / name)) for name in NAMES]
    assert unreadable_media(pictures, decode=False) == []
    with pytest.raises(AssertionError, match="is decoded"):
        unreadable_media(pictures)
