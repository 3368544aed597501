"""A picture is known to be whole by its ends; where they leave a doubt, it is decoded."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image as PillowImage

from flamingo_eval.data import check
from flamingo_eval.data.check import unreadable_media
from flamingo_eval.data.whole_files import looks_whole
from flamingo_eval.records import Image, Video


def saved(path: Path, mode: str = "RGB") -> Path:
    PillowImage.effect_noise((64, 48), 60).convert(mode).save(path)
    return path


@pytest.mark.parametrize("name", ["a.jpg", "a.png"])
def test_a_whole_file_is_told_from_one_cut_anywhere(tmp_path: Path, name: str) -> None:
    path = saved(tmp_path / name)
    whole = path.read_bytes()
    assert looks_whole(Image(path))
    for size in (0, 1, 10, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        assert not looks_whole(Image(path))
        assert unreadable_media([Image(path)], decode=False) or not unreadable_media([Image(path)])


def test_a_file_with_bytes_behind_its_end_is_decoded_and_fine(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.jpg")
    path.write_bytes(path.read_bytes() + bytes(7))
    assert not looks_whole(Image(path))
    assert unreadable_media([Image(path)], decode=False) == []


def test_what_cannot_be_told_by_its_ends_is_left_to_the_decoder(tmp_path: Path) -> None:
    assert not looks_whole(Image(saved(tmp_path / "a.gif", "L")))
    assert not looks_whole(Image(saved(tmp_path / "a.tif", "F")))
    PillowImage.new("I;16", (8, 8)).save(tmp_path / "deep.png")
    assert not looks_whole(Image(tmp_path / "deep.png"))
    assert not looks_whole(Image(tmp_path / "missing.jpg"))
    assert not looks_whole(Video(tmp_path / "clip.mp4"))


def test_whole_pictures_are_not_decoded_before_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(image: Image) -> None:
        raise AssertionError(f"{image.path} is decoded")

    monkeypatch.setattr(check, "open_image", never)
    pictures = [Image(saved(tmp_path / name)) for name in ("a.jpg", "b.png")]
    assert unreadable_media(pictures, decode=False) == []
    with pytest.raises(AssertionError, match="is decoded"):
        unreadable_media(pictures)
