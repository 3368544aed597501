from __future__ import annotations

import io
import random
import struct
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage
from PIL.PngImagePlugin import PngInfo

from flamingo_eval.data.images import open_image
from flamingo_eval.errors import MediaError
from flamingo_eval.records import Image

LEFT, RIGHT = (200, 30, 30), (20, 60, 220)
VALUES = {1: "B", 2: "s", 3: "H", 4: "I", 5: "II", 7: "s", 10: "ii", 12: "d"}


def two_halves(width: int = 64, height: int = 48) -> PillowImage.Image:
    pixels = np.full((height, width, 3), LEFT, np.uint8)
    pixels[:, width // 2 :] = RIGHT
    return PillowImage.fromarray(pixels)


def exif_block(entries: list[tuple[int, int, int, bytes]], order: str = "<") -> bytes:
    """An EXIF block of one directory from (tag, type, count, the four bytes of value or offset)."""
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8)
    body = struct.pack(order + "H", len(entries))
    for tag, kind, count, value in entries:
        body += struct.pack(order + "HHI", tag, kind, count) + value[:4].ljust(4, b"\0")
    return b"Exif\0\0" + head + body + bytes(4)


def orientation(value: int, order: str = "<") -> tuple[int, int, int, bytes]:
    return 0x112, 3, 1, struct.pack(order + "H", value)


def jpeg_with(exif: bytes, more: bytes = b"", picture: PillowImage.Image | None = None) -> bytes:
    """A JPEG file with an EXIF segment as given, and further segments before the picture's own."""
    out = io.BytesIO()
    (picture or two_halves()).save(out, "JPEG", quality=95, subsampling=0)
    data = out.getvalue()
    segment = b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif if exif else b""
    return data[:2] + segment + more + data[2:]


def png_with(*chunks: tuple[bytes, bytes]) -> bytes:
    out = io.BytesIO()
    two_halves().save(out, "PNG")
    data = out.getvalue()
    head, rest = data[:33], data[33:]  # signature and IHDR
    extra = b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    )
    return head + extra + rest


def opened(path: Path, data: bytes) -> PillowImage.Image:
    path.write_bytes(data)
    return open_image(Image(path))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("value", range(1, 9))
def test_every_orientation_is_turned_as_pillow_turns_it(tmp_path: Path, value: int, order: str) -> None:
    data = jpeg_with(exif_block([orientation(value, order)], order))
    from PIL import ImageOps

    expected = ImageOps.exif_transpose(PillowImage.open(io.BytesIO(data)))
    np.testing.assert_array_equal(np.asarray(opened(tmp_path / "a.jpg", data)), np.asarray(expected))


def test_no_other_tag_of_a_phone_photo_stops_or_turns_it(tmp_path: Path) -> None:
    """Tags of the wrong type, count and offset, in every place around the orientation."""
    draw = random.Random(20)
    plain = np.asarray(opened(tmp_path / "a.jpg", jpeg_with(b"")))
    for _ in range(300):
        odd = [
            (draw.choice([0x100, 0x10F, 0x11A, 0x128, 0x132, 0x8769, 0x8825, 0x927C, 0xA005, draw.randrange(65536)]),
             draw.choice([0, 1, 2, 3, 4, 5, 7, 9, 10, 12, 13, 99]), draw.choice([0, 1, 2, 9, 70000, 2**31]),
             draw.randbytes(4))
            for _ in range(draw.randrange(6))
        ]  # fmt: skip
        odd = [entry for entry in odd if entry[0] != 0x112]
        value = draw.choice([1, 6])
        odd.insert(draw.randrange(len(odd) + 1), orientation(value))
        pixels = np.asarray(opened(tmp_path / "a.jpg", jpeg_with(exif_block(odd))))
        np.testing.assert_array_equal(pixels, np.rot90(plain, -1) if value == 6 else plain)


@pytest.mark.parametrize(
    "block", [b"", b"Exif\0\0", b"Exif\0\0II", b"Exif\0\0noise of a camera", b"Exif\0\0II*\0\xff\xff\xff\x7f"]
)
def test_a_broken_exif_block_leaves_the_picture_as_it_is_stored(tmp_path: Path, block: bytes) -> None:
    assert opened(tmp_path / "a.jpg", jpeg_with(block)).size == (64, 48)


def test_a_broken_profile_or_thumbnail_index_stops_no_jpeg(tmp_path: Path) -> None:
    plain = np.asarray(opened(tmp_path / "a.jpg", jpeg_with(b"")))
    for body in (b"ICC_PROFILE\0", b"ICC_PROFILE\0\x01", b"MPF\0", b"MPF\0II*\0\x08\0\0\0\0\0", b"MPF\0garbage", b""):
        more = b"\xff\xe2" + struct.pack(">H", len(body) + 2) + body
        picture = opened(tmp_path / "a.jpg", jpeg_with(exif_block([orientation(8)]), more))
        np.testing.assert_array_equal(np.asarray(picture), np.rot90(plain))


@pytest.mark.slow
def test_chunks_beside_the_pixels_stop_no_png(tmp_path: Path) -> None:
    large = zlib.compress(b"a" * (2**20 + 1))
    profile = b"name\0\0" + zlib.compress(bytes(2**20 + 1))
    for chunks in (
        [(b"zTXt", b"Comment\0\0" + large)],
        [(b"iTXt", b"Comment\0\x01\0\0\0" + large)],
        [(b"iCCP", profile)],
        [(b"iCCP", b"name")],
        [(b"iCCP", b"name\0\x07data")],
        [(b"zTXt", b"Comment\0\x05data")],
        [(b"gAMA", b"\0")],
        [(b"pHYs", b"\0")],
        [(b"tEXt", b"a\0" + b"b" * 2**20)] * 65,
        [(b"acTL", b"\0")],
        [(b"fcTL", bytes(26))] * 2,
    ):
        picture = opened(tmp_path / "a.png", png_with(*chunks))
        np.testing.assert_array_equal(np.asarray(picture), np.asarray(two_halves()))
    turned = opened(tmp_path / "a.png", png_with((b"gAMA", b""), (b"eXIf", exif_block([orientation(6)])[6:])))
    np.testing.assert_array_equal(np.asarray(turned), np.rot90(np.asarray(two_halves()), -1))


def test_a_wrong_checksum_of_metadata_stops_no_png_and_one_of_pixels_does(tmp_path: Path) -> None:
    data = png_with((b"tEXt", b"Title\0Bridge"))
    text, pixels = data.index(b"tEXt"), data.index(b"IDAT")
    assert opened(tmp_path / "a.png", data[: text + 5] + b"X" + data[text + 6 :]).size == (64, 48)
    with pytest.raises(MediaError, match=r"b\.png"):
        opened(tmp_path / "b.png", data[: pixels + 10] + b"\xff\xff" + data[pixels + 12 :])


def test_xmp_and_webp_orientation_count_and_exif_comes_first(tmp_path: Path) -> None:
    packet = b'<x tiff:Orientation="6"/>'
    xmp = b"\xff\xe1" + struct.pack(">H", len(packet) + 31) + b"http://ns.adobe.com/xap/1.0/\0" + packet
    assert opened(tmp_path / "a.jpg", jpeg_with(b"", xmp)).size == (48, 64)
    assert opened(tmp_path / "b.jpg", jpeg_with(exif_block([orientation(1)]), xmp)).size == (64, 48)
    out = io.BytesIO()
    two_halves().save(out, "WEBP", lossless=True, exif=exif_block([(0x10F, 99, 2**31, b"abcd"), orientation(6)]))
    assert opened(tmp_path / "a.webp", out.getvalue()).size == (48, 64)


def test_a_tiff_is_turned_once(tmp_path: Path) -> None:
    two_halves().save(tmp_path / "a.tif", tiffinfo={0x112: 6})
    np.testing.assert_array_equal(
        np.asarray(open_image(Image(tmp_path / "a.tif"))), np.rot90(np.asarray(two_halves()), -1)
    )


@pytest.mark.slow
@pytest.mark.parametrize("order", ["<", ">"])
def test_no_odd_tag_stops_a_tiff(tmp_path: Path, order: str) -> None:
    rng = random.Random(order)
    tags = (0x10E, 0x10F, 0x131, 0x132, 0x11A, 0x128, 0x13B, 700, 33723, 34377, 34675, 0x8769, 0x8825, 0xA005, 40000)
    for n in range(150):
        odd = [(t, rng.randrange(20), rng.choice((0, 1, 3, 2**31)), rng.randbytes(4)) for t in rng.sample(tags, 4)]
        turn = rng.choice((1, 6, 8))
        content = tiff_with([*odd, orientation(turn, order)], order)
        expected = np.rot90(np.asarray(two_halves()), {1: 0, 6: -1, 8: 1}[turn])
        np.testing.assert_array_equal(np.asarray(opened(tmp_path / f"{n}.tif", content)), expected, str(odd))


def test_a_tiff_with_an_odd_orientation_is_upright_and_a_cut_one_is_refused(tmp_path: Path) -> None:
    for tag in ((0x112, 2, 40, b"abcd"), (0x112, 3, 1, struct.pack("<H", 99)), (0x112, 5, 1, b"\xff" * 4)):
        assert opened(tmp_path / "a.tif", tiff_with([tag, (0x10F, 99, 2**31, b"abcd")], "<")).size == (64, 48)
    with pytest.raises(MediaError, match=r"b\.tif"):
        opened(tmp_path / "b.tif", tiff_with([(0x10F, 99, 2**31, b"abcd")], "<")[:4000])


def tiff_with(entries: list[tuple[int, int, int, bytes]], order: str) -> bytes:
    """An uncompressed TIFF of the two halves; `entries` stand among the tags of its pixels."""
    pixels = two_halves().tobytes()
    numbers = {256: 64, 257: 48, 259: 1, 262: 2, 273: 8, 277: 3, 278: 48, 279: len(pixels), 284: 1}
    needed = [(tag, 4, 1, struct.pack(order + "I", value)) for tag, value in numbers.items()]
    bits = (258, 3, 3, struct.pack(order + "I", 8 + len(pixels)))
    tags = sorted([*needed, bits, *entries], key=lambda entry: entry[0])
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8 + len(pixels) + 6)
    directory = struct.pack(order + "H", len(tags))
    directory += b"".join(
        struct.pack(order + "HHI", *entry[:3]) + entry[3]
        for entry in [(t, k, c, v.ljust(4, b"\0")) for t, k, c, v in tags]
    )
    return head + pixels + struct.pack(order + "3H", 8, 8, 8) + directory + bytes(4)


def test_pictures_are_opened_without_warnings_in_several_threads(tmp_path: Path) -> None:
    for i in range(8):
        (tmp_path / f"{i}.jpg").write_bytes(jpeg_with(exif_block([(0x11A, 5, 1, b"\xff" * 4), orientation(6)])))
    with warnings.catch_warnings(record=True) as heard, ThreadPoolExecutor(4) as pool:
        warnings.simplefilter("always")
        before = list(warnings.filters)
        sizes = list(pool.map(lambda i: open_image(Image(tmp_path / f"{i % 8}.jpg")).size, range(64)))
        assert list(warnings.filters) == before
    assert sizes == [(48, 64)] * 64
    assert heard == []


def test_a_decompression_bomb_is_refused_whatever_its_metadata(tmp_path: Path) -> None:
    info = PngInfo()
    info.add_text("Comment", "a" * (2**20 + 1), zip=True)
    PillowImage.new("1", (12000, 9000)).save(tmp_path / "bomb.png", pnginfo=info)
    with pytest.raises(MediaError, match=r"bomb\.png: 12000 x 9000 is more than 89478485 pixels"):
        open_image(Image(tmp_path / "bomb.png"))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_cut_picture_stays_refused_without_its_metadata(tmp_path: Path, kind: str) -> None:
    noise = PillowImage.fromarray(np.random.default_rng(0).integers(0, 255, (128, 128, 3), np.uint8))
    out = io.BytesIO()
    noise.save(out, kind, exif=exif_block([orientation(6)]))
    with pytest.raises(MediaError, match=r"a\.x"):
        opened(tmp_path / "a.x", out.getvalue()[: len(out.getvalue()) // 2])


def test_other_files_under_a_pictures_name_are_named(tmp_path: Path) -> None:
    for data, cause in [
        (b"<!DOCTYPE html><html>404", "a web page"),
        (b'<?xml version="1.0"?><svg/>', "an SVG drawing"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "a HEIC photo"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
    ]:
        with pytest.raises(MediaError, match=rf"a\.jpg: expected a picture that Pillow can read, got {cause}"):
            opened(tmp_path / "a.jpg", data)
