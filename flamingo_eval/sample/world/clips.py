"""Small real mp4 files of the sample world: objects that move."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import av
from PIL import Image

from flamingo_eval.sample.benchmarks.draws import rng_of
from flamingo_eval.sample.world.render import render_clip
from flamingo_eval.sample.world.scenes import Motion, Scene, group_scene, seen

FPS, SECONDS = 8, 2  # of one scene
SIDE = 64
MOTIONS: tuple[Motion, ...] = ("left", "right", "up", "down", "still")


def moving_scene(benchmark: str, number: int) -> Scene:
    """One or two objects of a kind that move in a direction, or stand still."""
    rng = rng_of("clip", benchmark, number)
    scene = group_scene(f"sample:{benchmark}:clip:{number}", rng.choice(seen()), count=rng.choice((1, 2)))
    return replace(scene, motion=rng.choice(MOTIONS))


def write_clip(path: Path, scenes: Sequence[Scene]) -> None:
    """Write the scenes one after the other, two seconds each, as MPEG-4 at 8 frames per second; creates the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("mpeg4", rate=FPS)
        stream.width = stream.height = SIDE
        stream.pix_fmt = "yuv420p"
        stream.bit_rate = 400_000
        stream.codec_context.thread_count = 1  # the bytes of a file depend on it
        for scene in scenes:
            for picture in render_clip(scene, FPS * SECONDS):
                resized = picture.resize((SIDE, SIDE), Image.Resampling.BILINEAR)
                container.mux(stream.encode(av.VideoFrame.from_image(resized)))  # type: ignore[no-untyped-call]
        container.mux(stream.encode())
