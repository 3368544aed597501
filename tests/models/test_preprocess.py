from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage
from torch.testing import assert_close

from flamingo_eval import Image, Prompt, Video
from flamingo_eval.api import Model
from flamingo_eval.errors import MediaError
from flamingo_eval.models.config import PreprocessConfig
from flamingo_eval.models.preprocess import fitted, media_pixels, normalised
from tests.support.small_flamingo import picture

MEAN = (0.5, 0.25, 0.75)
PAD = PreprocessConfig(size=8, mean=MEAN, std=(0.5, 0.5, 0.5))
CROP = PreprocessConfig(size=8, fit="crop")


def gradient(width: int, height: int) -> PillowImage.Image:
    values = np.arange(width * height * 3, dtype=np.uint32) * 37 % 256
    return PillowImage.fromarray(values.astype(np.uint8).reshape(height, width, 3))


@pytest.mark.parametrize("size", [(16, 8), (8, 16)])
def test_padding_is_the_mean_and_becomes_zero(size: tuple[int, int]) -> None:
    pixels = normalised(fitted(PillowImage.new("RGB", size, (255, 255, 255)), PAD), PAD)
    if size[0] < size[1]:
        pixels = pixels.transpose(1, 2)
    assert_close(pixels[:, [0, 1, 6, 7]], torch.zeros(3, 4, 8), atol=0.005, rtol=0)  # within a grey level
    white = (1 - torch.tensor(MEAN)) / 0.5
    assert_close(pixels[:, 2:6], white[:, None, None].expand(3, 4, 8))


def test_a_square_of_the_right_size_is_only_normalised() -> None:
    picture = gradient(8, 8)
    expected = (np.asarray(picture, dtype=np.float32) / 255 - np.array(MEAN, np.float32)) / np.float32(0.5)
    for fit in ("pad", "crop", "squash"):
        config = PreprocessConfig(size=8, fit=fit, mean=MEAN, std=(0.5, 0.5, 0.5))
        assert_close(
            normalised(fitted(picture, config), config), torch.from_numpy(expected).permute(2, 0, 1), atol=1e-6, rtol=0
        )


@pytest.mark.parametrize(("width", "height"), [(11, 8), (8, 13), (8, 15), (21, 8)])
def test_the_centre_is_cut_as_torchvision_cuts(width: int, height: int) -> None:
    """Of an odd margin, half rounds to the even side; transformers' processor rounds down instead."""
    pixels = normalised(fitted(gradient(width, height), CROP), CROP)
    left, top = round((width - 8) / 2), round((height - 8) / 2)
    cut = np.asarray(gradient(width, height), dtype=np.float32)[top : top + 8, left : left + 8] / 255
    expected = (cut - np.array(CROP.mean, np.float32)) / np.array(CROP.std, np.float32)
    assert_close(pixels, torch.from_numpy(expected).permute(2, 0, 1).contiguous(), atol=1e-6, rtol=0)


@pytest.mark.parametrize("size", [(1, 300), (300, 1), (3, 5), (500, 333)])
@pytest.mark.parametrize("fit", ["pad", "crop", "squash"])
def test_any_shape_gives_a_square(size: tuple[int, int], fit: Literal["pad", "crop", "squash"]) -> None:
    config = PreprocessConfig(size=8, fit=fit)
    pixels = normalised(fitted(gradient(*size), config), config)
    assert pixels.shape == (3, 8, 8)
    assert pixels.isfinite().all()


def test_pixels_pass_untouched() -> None:
    image, clip = picture(0, size=8), picture(1, size=8, frames=3)
    assert torch.equal(media_pixels(image, PAD)[0], image.tensor)
    assert torch.equal(media_pixels(clip, PAD), clip.tensor)


def write_video(path: Path, seconds: float = 1.0, fps: int = 24) -> Path:
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=fps)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        for i in range(round(seconds * fps)):
            shade = np.full((32, 32, 3), 10 * i % 256, dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(shade, format="rgb24")))
        container.mux(stream.encode())
    return path


def test_a_second_of_video_is_three_frames(tmp_path: Path, small: Model) -> None:
    video = Video(write_video(tmp_path / "clip.mp4"))
    pixels = small.pixels(video)
    assert pixels.shape == (3, 3, 16, 16)
    levels = pixels.mean(dim=(1, 2, 3))
    assert levels[0] < levels[1] < levels[2]
    logits = small.logits(Prompt([video, "what?"]))
    assert logits.isfinite().all()
    backwards = type(picture(0))(pixels.flip(0))
    assert (small.logits(Prompt([backwards, "what?"])) - logits).abs().max() > 1e-4  # time is told


def test_a_long_video_is_thirty_frames(tmp_path: Path, small: Model) -> None:
    pixels = small.pixels(Video(write_video(tmp_path / "clip.mp4", seconds=12, fps=6)))
    assert pixels.shape[0] == 30
    assert small.visual_tokens(type(picture(0))(pixels)).shape == (3, 24)


def test_broken_files_are_named(tmp_path: Path, small: Model) -> None:
    video = write_video(tmp_path / "clip.mp4")
    video.write_bytes(b"\0" * 500)
    with pytest.raises(MediaError, match=r"clip\.mp4"):
        small.logits(Prompt([Video(video), "x"]))
    (tmp_path / "a.jpg").write_bytes(b"no picture")
    with pytest.raises(MediaError, match=r"a\.jpg"):
        small.logits(Prompt([Image(tmp_path / "a.jpg"), "x"]))
