"""Vectors for RICES from a model's frozen parts: the vision encoder's features, the language model's embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from flamingo_eval.engine.numbers_check import no_visual_tokens
from flamingo_eval.engine.vision import PictureEncoder
from flamingo_eval.models.loaded import LoadedModel
from flamingo_eval.records import Media, Pixels, Prompt

if TYPE_CHECKING:
    from numpy.typing import NDArray


class ModelEncoder:
    """One L2-normalised float32 vector a picture, clip or text."""

    def __init__(self, model: LoadedModel, pictures: PictureEncoder | None = None) -> None:
        """`pictures`: the engine's, which keeps what is opened here, so that no picture is decoded twice."""
        self.model, self.pictures = model, pictures

    @property
    def sha256(self) -> str:
        """Hash of the checkpoint, so that features of different checkpoints are never mixed."""
        return self.model.sha256

    def embed_media(self, media: Sequence[Media]) -> NDArray[np.float32]:
        """Mean of the frozen vision encoder's output over frames and positions. -> float32[N, V]

        Raises ModelError if they are NaN or infinite.
        """
        vectors = torch.stack([self.model.features(self._opened(m)).float().mean(dim=(0, 1)) for m in media])
        for one, vector in zip(media, vectors, strict=True):
            if not vector.isfinite().all():
                raise no_visual_tokens(one, self.model.dtype)
        return F.normalize(vectors, dim=-1).cpu().numpy()

    def _opened(self, media: Media) -> Media | Pixels:
        return media if self.pictures is None else Pixels(self.pictures.opened(media))

    @torch.inference_mode()
    def embed_text(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Mean of the frozen language model's input embeddings over the text's tokens. -> float32[N, D]"""
        return F.normalize(torch.stack([self._of_text(text) for text in texts]), dim=-1).cpu().numpy()

    def _of_text(self, text: str) -> Tensor:
        weight = self.model.flamingo.decoder.embedding.weight
        if not text and not self.model.begin:
            return weight.new_zeros(weight.shape[1], dtype=torch.float32)  # no token at all: similar to no other text
        return weight[list(self.model.encode(Prompt([text])).ids)].float().mean(dim=0)
