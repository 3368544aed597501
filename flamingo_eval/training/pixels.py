"""Scenes as the vision encoder sees them."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from flamingo_eval.data.videos import sample_times
from flamingo_eval.models.config import PreprocessConfig
from flamingo_eval.models.preprocess import normalised
from flamingo_eval.sample.world.clips import FPS, SECONDS
from flamingo_eval.sample.world.render import render, render_clip
from flamingo_eval.sample.world.scenes import Scene

_RESAMPLE = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


def rendered(scenes: Iterable[Scene], n: int, config: PreprocessConfig) -> Tensor:
    """Pictures of `n` scenes, resized as models.preprocess does it, not normalised. -> uint8[n, 3, size, size]"""
    out = np.empty((n, config.size, config.size, 3), np.uint8)
    for i, scene in enumerate(scenes):
        out[i] = np.asarray(render(scene).resize((config.size, config.size), _RESAMPLE[config.resample]))
    return torch.from_numpy(out).permute(0, 3, 1, 2).contiguous()


def filmed(scenes: Iterable[Scene], n: int, config: PreprocessConfig) -> Tensor:
    """The sampled frames of `n` clips, resized as in `rendered`. -> uint8[n, T, 3, size, size]"""
    indices = [int(t * FPS) for t in sample_times(SECONDS, config.frames, config.fps, config.longer)]
    out = np.empty((n, len(indices), config.size, config.size, 3), np.uint8)
    for i, scene in enumerate(scenes):
        frames = render_clip(scene, FPS * SECONDS)
        for j, k in enumerate(indices):
            out[i, j] = np.asarray(frames[k].resize((config.size, config.size), _RESAMPLE[config.resample]))
    return torch.from_numpy(out).permute(0, 1, 4, 2, 3).contiguous()


def shifted(pictures: Tensor, max_shift: int, generator: torch.Generator) -> Tensor:
    """Each picture moved by up to `max_shift` pixels, its border repeated. [N, 3, H, W] -> [N, 3, H, W]"""
    if not max_shift:
        return pictures
    side = pictures.shape[-1]
    padded = nn.functional.pad(pictures, (max_shift, max_shift, max_shift, max_shift), mode="replicate")
    moves = torch.randint(0, 2 * max_shift + 1, (len(pictures), 2), generator=generator).tolist()
    return torch.stack([padded[i, :, y : y + side, x : x + side] for i, (y, x) in enumerate(moves)])


@torch.inference_mode()
def encoded(
    vision: nn.Module, pictures: Tensor, config: PreprocessConfig, device: torch.device, batch: int = 256
) -> Tensor:
    """Features of all pictures. uint8[N, 3, size, size] -> bfloat16[N, P, V] on the device"""
    parts = [
        vision(normalised(pictures[i : i + batch].to(device), config)).to(torch.bfloat16)
        for i in range(0, len(pictures), batch)
    ]
    return torch.cat(parts)
