"""Small copies: limited in number and size, the most wanted first, broken ones named."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image as PillowImage

from flamingo_eval.records import Image, Video
from flamingo_eval.report.thumbnails import STRIP_FRAMES, Copy, PictureBook


@pytest.fixture
def picture(tmp_path: Path) -> Image:
    PillowImage.new("RGB", (400, 200), "red").save(tmp_path / "red.png")
    return Image(tmp_path / "red.png")


def opened(copy: Copy) -> PillowImage.Image:
    head, _, body = copy.uri.partition(",")
    assert head == "data:image/jpeg;base64"
    return PillowImage.open(io.BytesIO(base64.b64decode(body)))


def test_copies_are_small_jpegs(picture: Image) -> None:
    book = PictureBook(size=64, limit=5)
    assert book.number(picture, (0,)) == 0
    (copy,) = book.copies()
    assert opened(copy).size == (64, 32) == (copy.width, copy.height)
    assert copy.about == "red.png"


def test_a_picture_asked_for_twice_is_there_once(picture: Image) -> None:
    book = PictureBook(64, 5)
    assert book.number(picture, (3,)) == book.number(Image(picture.path), (1,)) == 0
    assert len(book) == 1


def test_the_most_wanted_get_the_places(tmp_path: Path) -> None:
    paths = [tmp_path / f"{i}.png" for i in range(3)]
    for path in paths:
        PillowImage.new("RGB", (8, 8)).save(path)
    book = PictureBook(64, 2)
    for path, expected in zip(paths, [(4, 0), (0,), (4, 1)], strict=True):
        book.number(Image(path), expected)
    assert [bool(c.uri) for c in book.copies()] == [True, True, False]
    assert book.copies()[2].missing == "not on this page"


def test_what_cannot_be_read_is_named_without_its_folder(tmp_path: Path) -> None:
    (tmp_path / "cut.jpg").write_bytes(b"\xff\xd8\xff")
    book = PictureBook(64, 2)
    book.number(Image(tmp_path / "cut.jpg"), (0,))
    (copy,) = book.copies()
    assert not copy.uri
    assert copy.missing.startswith("cut.jpg: ")
    assert str(tmp_path) not in copy.missing


def test_a_clip_becomes_a_strip_of_frames(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height = 64, 48
        for i in range(40):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), i * 6, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    book = PictureBook(size=64, limit=1)
    book.number(Video(path, 0.0, 3.0), (0,))
    (copy,) = book.copies()
    assert copy.frames == STRIP_FRAMES
    assert opened(copy).width == STRIP_FRAMES * 40 + 2 * (STRIP_FRAMES - 1)
    assert copy.about.startswith("clip.mp4, 0 to 3 s: 4 of 9 frames")
    shades = [int(np.asarray(opened(copy).convert("L"))[10, 20 + 42 * i]) for i in range(4)]
    assert shades == sorted(shades)
    assert shades[0] < shades[3]


def test_places_go_round_the_tasks_query_pictures_first(tmp_path: Path) -> None:
    book = PictureBook(16, limit=5)
    pictures = {}
    for task in range(2):
        for place in range(3):
            for kind in (0, 1):  # a query's picture, a demonstration's
                path = tmp_path / f"{task}{place}{kind}.png"
                PillowImage.new("RGB", (4, 4)).save(path)
                order = (kind, place, task) if kind == 0 else (kind, 0, 4, place, task)
                pictures[task, place, kind] = book.number(Image(path), order)
    copies = book.copies()
    kept = {key for key, number in pictures.items() if copies[number].uri}
    assert kept == {(0, 0, 0), (1, 0, 0), (0, 1, 0), (1, 1, 0), (0, 2, 0)}
