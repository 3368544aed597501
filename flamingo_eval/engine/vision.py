"""Pictures of a batch -> visual tokens, each picture encoded at most once; then keys and values, layer by layer.

Shapes: P different pictures, T frames, L visual tokens, R their width, B prompts, H heads, d head size.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from flamingo_eval.data.media import content_hash
from flamingo_eval.engine.media_loader import PictureLoader
from flamingo_eval.engine.numbers_check import no_visual_tokens
from flamingo_eval.engine.vision_cache import VisionCache
from flamingo_eval.errors import FlamingoEvalError, MediaError
from flamingo_eval.models.flamingo import Flamingo
from flamingo_eval.models.preprocess import media_pixels
from flamingo_eval.models.xattn import GatedXattn, VisualKV
from flamingo_eval.records import Image, Pixels, Video

AnyMedia = Image | Video | Pixels

FRAMES_AT_ONCE = {"cpu": 4, "cuda": 64}
MIN_ROWS = 16  # of a matrix product: below 12, its kernels add up in another order


class PictureEncoder:
    """Media -> visual tokens, through the cache."""

    def __init__(self, flamingo: Flamingo, cache: VisionCache, loader: PictureLoader) -> None:
        self.flamingo, self.cache, self.loader = flamingo, cache, loader
        self.encoded = 0

    def ahead(self, media: AnyMedia) -> None:
        """Let a worker open a picture that will be needed, unless its tokens are known."""
        if self.loader.workers and not isinstance(media, Pixels):
            try:
                known = content_hash(media) in self.cache
            except MediaError:  # whoever needs the picture will hear of it
                return
            if not known:
                self.loader.ahead(media)

    @torch.inference_mode()
    def tokens(self, wanted: Iterable[AnyMedia]) -> tuple[dict[AnyMedia, Tensor], dict[AnyMedia, FlamingoEvalError]]:
        """Visual tokens [L, R] on the CPU of each picture, and what went wrong with the others.

        Wrong is a picture that cannot be opened (MediaError), and one whose tokens are not numbers (ModelError).

        Pictures of one number of frames are encoded in groups of one size, the last filled up with copies: what comes
        out for a picture does not depend on what else is encoded.
        """
        wrong: dict[AnyMedia, FlamingoEvalError] = {}
        keys: dict[AnyMedia, str] = {}
        under_way: set[str] = set()
        found: dict[str, Tensor] = {}
        by_frames: dict[int, list[tuple[str, Tensor]]] = {}
        for media in dict.fromkeys(wanted):
            try:
                key = content_hash(media)
                pixels = None if key in under_way else self._pixels_of_unknown(key, media, found)
            except MediaError as error:
                wrong[media] = error
                continue
            keys[media] = key
            under_way.add(key)
            if pixels is not None:
                group = by_frames.setdefault(len(pixels), [])
                group.append((key, pixels))
                if len(group) == self._group_size(len(pixels)):
                    self._encode(by_frames.pop(len(pixels)), found)
        for group in by_frames.values():
            self._encode(group, found)
        dtype = self.flamingo.decoder.embedding.weight.dtype
        wrong |= {media: no_visual_tokens(media, dtype) for media, key in keys.items() if key not in found}
        return {media: found[key] for media, key in keys.items() if key in found}, wrong

    def _pixels_of_unknown(self, key: str, media: AnyMedia, found: dict[str, Tensor]) -> Tensor | None:
        """The pixels of a picture that has to be encoded; None where the cache has its tokens, which are then found."""
        cached = self.cache.get(key)
        if cached is None or not cached.isfinite().all():
            return self._pixels(media)
        found[key] = cached
        if not isinstance(media, Pixels):
            self.loader.forget(media)
        return None

    def _pixels(self, media: AnyMedia) -> Tensor:
        if isinstance(media, Pixels):
            return media_pixels(media, self.loader.config)
        return self.loader.pixels(media)

    def _group_size(self, frames: int) -> int:
        device = self.flamingo.decoder.embedding.weight.device.type
        return math.ceil(FRAMES_AT_ONCE.get(device, 4) / frames)

    def _encode(self, group: list[tuple[str, Tensor]], found: dict[str, Tensor]) -> None:
        weight = self.flamingo.decoder.embedding.weight
        size = self._group_size(len(group[0][1]))
        filled = [pixels for _, pixels in group] + [group[-1][1]] * (size - len(group))
        batch = torch.stack(filled).to(weight.device, weight.dtype)  # [size, T, 3, h, w]
        tokens = self.flamingo.visual_tokens(self.flamingo.features(batch)).cpu()
        for (key, _), own in zip(group, tokens, strict=False):
            if not own.isfinite().all():
                continue  # never cached; whoever asked for it gets an error
            self.cache.put(key, own.clone())
            found[key] = own
        self.encoded += len(group)


class Projections:
    """Keys and values of a few prompts' pictures, made when a layer asks; those of each prompt's last one are kept.

    While prompts are read, every layer needs all pictures once. What branches off them needs the last alone.
    """

    def __init__(self, tokens: Tensor, last: Sequence[int]) -> None:
        """`tokens` [P, L, R]; `last`: each prompt's last picture, -1 for none."""
        too_few = -(-MIN_ROWS // tokens.shape[1]) - len(tokens)
        self.tokens = F.pad(tokens, (0, 0, 0, 0, 0, max(too_few, 0)))
        self.last = torch.tensor([max(i, 0) for i in last], device=tokens.device)
        self.kept: list[VisualKV] = []

    def __call__(self, block: int, layer: GatedXattn) -> VisualKV:
        """For the next gated block: two of [P, H, L, d]."""
        del block
        keys, values = layer.project_visual(self.tokens)
        self.kept.append((keys[self.last], values[self.last]))
        return keys, values


class LastPictures:
    """Keys and values of the last picture of every row, by gated block: what branches of a prompt see."""

    def __init__(self, by_block: dict[int, VisualKV]) -> None:
        """`by_block`: two of [rows, H, L, d]; empty where no row has a picture."""
        self.by_block = by_block

    def __call__(self, block: int, layer: GatedXattn) -> VisualKV | None:
        """For a gated block: two of [rows, H, L, d]."""
        del layer
        return self.by_block.get(block)

    def keep(self, rows: Tensor) -> None:
        """Drop all rows but these. int64[n]"""
        self.by_block = {block: (keys[rows], values[rows]) for block, (keys, values) in self.by_block.items()}
