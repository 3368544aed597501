from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image as PillowImage

from flamingo_eval.engine.media_loader import AHEAD_PER_WORKER, PictureLoader
from flamingo_eval.errors import MediaError
from flamingo_eval.models.config import PreprocessConfig
from flamingo_eval.models.preprocess import media_pixels
from flamingo_eval.records import Image

CONFIG = PreprocessConfig(size=16)


def pictures(folder: Path, n: int) -> list[Image]:
    for i in range(n):
        PillowImage.new("RGB", (20, 10), (i, 2 * i, 3 * i)).save(folder / f"{i}.png")
    return [Image(folder / f"{i}.png") for i in range(n)]


@pytest.mark.slow
def test_pixels_do_not_depend_on_the_number_of_processes(tmp_path: Path) -> None:
    media = pictures(tmp_path, 12)
    (tmp_path / "cut.jpg").write_bytes(b"\xff\xd8\xff")
    bad = Image(tmp_path / "cut.jpg")
    for workers in (0, 2):
        with PictureLoader(CONFIG, workers) as loader:
            for picture in [*media, bad]:
                loader.ahead(picture)
            for picture in media:
                assert torch.equal(loader.pixels(picture), media_pixels(picture, CONFIG))
            with pytest.raises(MediaError, match=r"cut\.jpg"):
                loader.pixels(bad)


@pytest.mark.slow
def test_few_pictures_wait_and_a_process_that_dies_is_replaced_by_our_own(tmp_path: Path) -> None:
    media = pictures(tmp_path, AHEAD_PER_WORKER + 5)
    with PictureLoader(CONFIG, workers=1) as loader:
        for picture in media:
            loader.ahead(picture)
        assert list(loader._opened) == media[:AHEAD_PER_WORKER]
        loader.pixels(media[0])
        assert list(loader._opened) == media[1 : AHEAD_PER_WORKER + 1]  # the next is begun
        for picture in media[AHEAD_PER_WORKER + 1 :]:
            loader.forget(picture)
        for picture in media[1 : AHEAD_PER_WORKER + 1]:
            loader.pixels(picture)
        assert not loader._opened
        pool = loader._pool
        assert pool is not None
        for process in list(pool._processes.values()):
            process.kill()
            process.join()
        for picture in media:
            loader.ahead(picture)
            assert torch.equal(loader.pixels(picture), media_pixels(picture, CONFIG))
