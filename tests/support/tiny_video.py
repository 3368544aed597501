"""Tiny models of transformers whose families take videos: template and video processor for tiny_vlm.py's folders.

Video processors only run with torchvision, which has no build for the CPU build of torch that tests run with. It can be
imported beside it once its operators exist as names; resizing and cropping need none of them. `make test` installs it
into a folder of its own, so that only the processes that ask for it see it.
"""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from pathlib import Path
from typing import Any

from tests.support.more_tiny_vlm import MORE_FAMILIES, SQUARE
from tests.support.tiny_vlm import FAMILIES, HALF, IM_TEMPLATE, SIDE, save_tiny

TORCHVISION = Path(sys.prefix) / "torchvision"
QWEN = {
    "patch_size": 4,
    "merge_size": 2,
    "temporal_patch_size": 2,
    "size": {"shortest_edge": 256, "longest_edge": 8192},
}
QWEN_TAG = "<|vision_start|><|video_pad|><|vision_end|>"
EDGE = {"longest_edge": SIDE}
VIDEO: dict[str, tuple[str, dict[str, Any]]] = {  # the template's text for a video, the video processor's configuration
    "qwen2_vl": (QWEN_TAG, {"video_processor_type": "Qwen2VLVideoProcessor", **QWEN}),
    "qwen2_5_vl": (QWEN_TAG, {"video_processor_type": "Qwen2VLVideoProcessor", **QWEN}),
    "qwen3_vl": (QWEN_TAG, {"video_processor_type": "Qwen3VLVideoProcessor", **QWEN}),
    "qwen3_5": (QWEN_TAG, {"video_processor_type": "Qwen3VLVideoProcessor", **QWEN}),
    "llava_onevision": ("<video>\n", {"video_processor_type": "LlavaOnevisionVideoProcessor", "size": SQUARE}),
    "internvl": ("<video>\n", {"video_processor_type": "InternVLVideoProcessor", "size": SQUARE}),
    "smolvlm": (
        "<video>",
        {
            "video_processor_type": "SmolVLMVideoProcessor", "size": EDGE, "max_image_size": EDGE,
            "image_mean": HALF, "image_std": HALF,
        },
    ),
    "video_llava": (
        "<video>\n",
        {"video_processor_type": "VideoLlavaVideoProcessor", "size": {"shortest_edge": SIDE}, "crop_size": SQUARE},
    ),
    "gemma4": (
        "<|video|>",
        {
            "video_processor_type": "Gemma4VideoProcessor", "patch_size": 8, "max_soft_tokens": 70,
            "pooling_kernel_size": 2,
        },
    ),
}  # fmt: skip


def save_tiny_video(family: str, folder: Path) -> Path:
    """The folder of a tiny model whose chat template and processor take videos. Needs no torchvision."""
    tiny = FAMILIES.get(family) or MORE_FAMILIES[family]
    tag, processor = VIDEO[family]
    save_tiny(family, folder, tiny)
    template = IM_TEMPLATE.replace("{% else %}", f"{{% elif c['type']=='video' %}}{tag}{{% else %}}", 1)
    (folder / "chat_template.jinja").write_text(template.replace("IMAGE", tiny.image))
    (folder / "video_preprocessor_config.json").write_text(json.dumps(processor))
    path = folder / "processor_config.json"
    config = json.loads(path.read_text())
    if "video_processor" in config:
        path.write_text(json.dumps({**config, "video_processor": processor}))
    return folder


def import_torchvision() -> None:
    """Import torchvision, also beside a build of torch that it was not made for."""
    import torch

    try:
        importlib.import_module("torchvision")
        return
    except RuntimeError:  # its operators do not exist
        for name in [n for n in sys.modules if n.split(".")[0] == "torchvision"]:
            del sys.modules[name]
    spec = importlib.util.find_spec("torchvision")
    assert spec is not None
    assert spec.origin is not None
    source = (Path(spec.origin).parent / "_meta_registrations.py").read_text()
    names = {*re.findall(r'@register_meta\("(\w+)"', source), *re.findall(r"torchvision::(\w+)", source)}
    global _operators
    _operators = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
    for name in sorted(names):
        _operators.define(f"{name}(Tensor x) -> Tensor")
    importlib.import_module("torchvision")


_operators: Any = None
