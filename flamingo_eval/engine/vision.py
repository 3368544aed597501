"""Pictures of a batch -> visual tokens, each encoded at most once; then keys and values, layer by layer.

Shapes: P different pictures, T frames, L visual tokens, R their width, B prompts, H heads, d head size.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from flamingo_eval.data.media import content_hash
from flamingo_eval.engine.kept_pixels import KeptPixels
from flamingo_eval.engine.media_loader import PictureLoader
from flamingo_eval.engine.numbers_check import no_visual_tokens
from flamingo_eval.engine.vision_cache import VisionCache
from flamingo_eval.errors import FlamingoEvalError, MediaError
from flamingo_eval.models.flamingo import Flamingo
from flamingo_eval.models.preprocess import fitted_pixels, media_pixels, normalised
from flamingo_eval.models.xattn import GatedXattn, VisualKV
from flamingo_eval.records import Image, Pixels, Video

AnyMedia = Image | Video | Pixels

FRAMES_AT_ONCE = {"cpu": 4, "cuda": 64}
MIN_ROWS = 16  # of a matrix product: below 12, its kernels add up in another order


class PictureEncoder:
    """Media -> visual tokens, through the cache; a picture that was opened for another purpose is not opened again."""

    def __init__(self, flamingo: Flamingo, cache: VisionCache, loader: PictureLoader) -> None:
        self.flamingo, self.cache, self.loader = flamingo, cache, loader
        self.kept = KeptPixels()
        self.encoded = 0

    def opened(self, media: Image | Video) -> Tensor:
        """A picture's or clip's pixels, float32[T, 3, size, size], kept if its tokens will have to be made of them.

        Raises MediaError.
        """
        pixels = self._fitted(media)
        return normalised(pixels, self.loader.config)

    def check(self, image: Image) -> None:
        """Raise MediaError for a picture that cannot be shown. What is opened for it is kept for its tokens."""
        if content_hash(image) not in self.cache:
            self._fitted(image)

    def _fitted(self, media: Image | Video) -> Tensor:
        key = content_hash(media)
        pixels = self.kept.take(key)
        if pixels is None:
            pixels = fitted_pixels(media, self.loader.config)
        if key not in self.cache:
            self.kept.put(key, pixels)
        return pixels

    def ahead(self, media: AnyMedia) -> None:
        """Let a worker open a picture that will be needed, unless its tokens are in the cache."""
        if self.loader.workers and not isinstance(media, Pixels):
            try:
                key = content_hash(media)
                cached = key in self.cache or key in self.kept
            except MediaError:  # raised again when the picture is needed
                return
            if not cached:
                self.loader.ahead(media)

    @torch.inference_mode()
    def tokens(self, all_media: Iterable[AnyMedia]) -> tuple[dict[AnyMedia, Tensor], dict[AnyMedia, FlamingoEvalError]]:
        """Visual tokens [L, R] on the CPU of each picture, and the errors of the others.

        MediaError: the picture cannot be opened; ModelError: its tokens are NaN or infinite.

        Pictures with the same number of frames are encoded in groups of a fixed size, the last one padded with copies,
        so that a picture's tokens do not depend on the other pictures.
        """
        errors: dict[AnyMedia, FlamingoEvalError] = {}
        keys: dict[AnyMedia, str] = {}
        seen_keys: set[str] = set()
        tokens_of: dict[str, Tensor] = {}
        by_frames: dict[int, list[tuple[str, Tensor]]] = {}
        for media in dict.fromkeys(all_media):
            try:
                key = content_hash(media)
                pixels = None if key in seen_keys else self._pixels_of_unknown(key, media, tokens_of)
            except MediaError as error:
                errors[media] = error
                continue
            keys[media] = key
            seen_keys.add(key)
            if pixels is not None:
                group = by_frames.setdefault(len(pixels), [])
                group.append((key, pixels))
                if len(group) == self._group_size(len(pixels)):
                    self._encode(by_frames.pop(len(pixels)), tokens_of)
        for group in by_frames.values():
            self._encode(group, tokens_of)
        dtype = self.flamingo.decoder.embedding.weight.dtype
        errors |= {media: no_visual_tokens(media, dtype) for media, key in keys.items() if key not in tokens_of}
        return {media: tokens_of[key] for media, key in keys.items() if key in tokens_of}, errors

    def _pixels_of_unknown(self, key: str, media: AnyMedia, tokens_of: dict[str, Tensor]) -> Tensor | None:
        """The pixels of a picture that has to be encoded; None if its tokens are cached, which go to `tokens_of`."""
        cached = self.cache.get(key)
        if cached is None or not cached.isfinite().all():
            return self._pixels(key, media)
        tokens_of[key] = cached
        if not isinstance(media, Pixels):
            self.loader.forget(media)
        return None

    def _pixels(self, key: str, media: AnyMedia) -> Tensor:
        if isinstance(media, Pixels):
            return media_pixels(media, self.loader.config)
        kept = self.kept.take(key)
        if kept is None:
            return self.loader.pixels(media)
        self.loader.forget(media)
        return normalised(kept, self.loader.config)

    def _group_size(self, frames: int) -> int:
        device = self.flamingo.decoder.embedding.weight.device.type
        return math.ceil(FRAMES_AT_ONCE.get(device, 4) / frames)

    def _encode(self, group: list[tuple[str, Tensor]], tokens_of: dict[str, Tensor]) -> None:
        weight = self.flamingo.decoder.embedding.weight
        size = self._group_size(len(group[0][1]))
        filled = [pixels for _, pixels in group] + [group[-1][1]] * (size - len(group))
        batch = torch.stack(filled).to(weight.device, weight.dtype)  # [size, T, 3, h, w]
        tokens = self.flamingo.visual_tokens(self.flamingo.features(batch)).cpu()
        for (key, _), picture_tokens in zip(group, tokens, strict=False):
            if not picture_tokens.isfinite().all():
                continue  # never cached; the caller reports an error
            self.cache.put(key, picture_tokens.clone())
            tokens_of[key] = picture_tokens
        self.encoded += len(group)


class Projections:
    """Keys and values of a few prompts' pictures, computed layer by layer; those of last pictures are kept.

    While prompts are read, every layer needs all pictures once. Branches need only each prompt's last picture.
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
    """Keys and values of the last picture of every row, by gated block; branches see these."""

    def __init__(self, by_block: dict[int, VisualKV]) -> None:
        """`by_block`: two of [rows, H, L, d]; empty if no row has a picture."""
        self.by_block = by_block

    def __call__(self, block: int, layer: GatedXattn) -> VisualKV | None:
        """For a gated block: two of [rows, H, L, d]."""
        del layer
        return self.by_block.get(block)

    def keep(self, rows: Tensor) -> None:
        """Drop all rows but these. int64[n]"""
        self.by_block = {block: (keys[rows], values[rows]) for block, (keys, values) in self.by_block.items()}
