"""Vectors for RICES from a model of transformers: its vision encoder's output, its language model's embeddings."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from flamingo_eval.backends.hf.features import FEATURES
from flamingo_eval.backends.hf.reader import Read
from flamingo_eval.errors import UsageError
from flamingo_eval.records import Media, Prompt

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from flamingo_eval.backends.hf.model import HFModel


class HFEncoder:
    """One L2-normalised float32 vector a picture, clip or text."""

    def __init__(self, model: HFModel) -> None:
        self.model = model

    @property
    def sha256(self) -> str:
        """Hash of the model and its options, so that features of different models are never mixed."""
        return self.model.sha256

    def embed_media(self, media: Sequence[Media]) -> NDArray[np.float32]:
        """Mean of the vision encoder's last hidden states over positions, and over frames. -> float32[N, V]"""
        rows = [self._mean(Prompt([m])) for m in media]
        return F.normalize(torch.stack(rows), dim=-1).cpu().numpy()

    @torch.inference_mode()
    def embed_text(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Mean of the language model's input embeddings over the text's tokens. -> float32[N, D]"""
        embed = self.model.network.model.get_input_embeddings()
        ids = [torch.tensor(self.model.shape.reader.continuation(text), device=self.model.device) for text in texts]
        return F.normalize(torch.stack([embed(i).float().mean(dim=0) for i in ids]), dim=-1).cpu().numpy()

    def _mean(self, prompt: Prompt) -> Tensor:
        output = self._encoded(self.model.pictures.read_opened(prompt))
        states = getattr(output, "last_hidden_state", None)
        if states is None:
            states = output[FEATURES]
        parts = list(states) if isinstance(states, (list, tuple)) else [states]
        flat = torch.cat([p.float().reshape(-1, p.shape[-1]) for p in parts])
        return flat.mean(dim=0)

    @torch.inference_mode()
    def _encoded(self, read: Read) -> Any:
        """The output of `get_image_features`, or of the vision tower itself where a family has none (Mllama).

        Raises UsageError for a family with neither.
        """
        network = self.model.network
        if any(name.endswith("_videos") for name in read.by_picture) and hasattr(network.inner, "get_video_features"):
            return network.clip_features(read)
        if hasattr(network.inner, "get_image_features"):
            return network.features(read)
        tower: Any = getattr(network.inner, "vision_model", None)
        try:
            parameters = inspect.signature(tower.forward).parameters
            inputs = {k: network.moved(v) for k, v in read.by_picture.items() if k in parameters}
            return tower(**inputs, return_dict=True)
        except (AttributeError, TypeError, ValueError, RuntimeError) as error:
            raise UsageError(
                f"--demos rices: the family {network.model.config.model_type} gives no features of a picture.",
                fix="Choose demonstrations by another model's features: --features-of tiny, or hf:FOLDER.",
            ) from error
