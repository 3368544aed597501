"""Special cases of families of transformers; most families need none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from flamingo_eval.backends.choice import ArgValue


@dataclass(frozen=True, slots=True)
class Family:
    """The special cases of one family.

    `image_args`: options of the image processor that decide how many tokens a picture has; few, so that many shots fit.
    `lone_differs`: a single picture in a prompt is cropped differently from one of several.
    `plain`: one prompt at a time, by the model's own code, without caches or batches.
    """

    image_args: Mapping[str, ArgValue] = field(default_factory=dict)
    lone_differs: bool = False
    plain: bool = False


FAMILIES: dict[str, Family] = {
    "idefics2": Family({"do_image_splitting": False}),
    "idefics3": Family({"do_image_splitting": False}),
    "smolvlm": Family({"do_image_splitting": False}),
    "internvl": Family({"crop_to_patches": False}),
    "gemma3": Family({"do_pan_and_scan": False}),
    "cohere2_vision": Family({"crop_to_patches": False}),
    "aya_vision": Family({"crop_to_patches": False}),
    "got_ocr2": Family({"crop_to_patches": False}),
    "llava_onevision": Family(lone_differs=True),
    "mllama": Family(plain=True),  # early tokens attend to later pictures and to padding
}


def family_of(model_type: str) -> Family:
    """The row of a family; an empty one if it has none."""
    return FAMILIES.get(model_type, Family())
