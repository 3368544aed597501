"""Pictures of examples, opened."""

from __future__ import annotations

import numpy as np
from PIL import Image as PillowImage

from flamingo_eval.data.media import open_image
from flamingo_eval.records import Image, Media


def opened(media: Media) -> PillowImage.Image:
    """The picture in a prompt; `media` is not a clip."""
    assert isinstance(media, Image)
    return open_image(media)


def level(media: Media) -> int:
    """The red value of the first pixel: the level of a picture of one grey."""
    return int(np.asarray(opened(media))[0, 0, 0])
