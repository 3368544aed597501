"""Evaluation of the encoder during training: zero-shot classification, and retrieval of reference texts."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from flamingo_eval.config.names import find_task
from flamingo_eval.data.layouts import load_split
from flamingo_eval.data.roots import data_root
from flamingo_eval.data.task_file import load_task
from flamingo_eval.errors import DataError
from flamingo_eval.models.config import PreprocessConfig
from flamingo_eval.models.preprocess import normalised
from flamingo_eval.records import Example, Image
from flamingo_eval.training.contrastive.pairs import TextMaker
from flamingo_eval.training.contrastive.recipe import ZeroShotSpec
from flamingo_eval.training.streams.samples import Look
from flamingo_eval.training.towers import Contrastive, class_embeddings, classify, retrieval_recall

AT_ONCE = 64


class ZeroShot:
    """The tasks of a recipe, read once. Raises DataError for a task that has neither classes nor reference texts."""

    def __init__(self, spec: ZeroShotSpec, preprocess: PreprocessConfig, texts: TextMaker) -> None:
        self.spec, self.look, self.texts = spec, Look(preprocess), texts
        self.tasks: dict[str, tuple[list[Example], tuple[str, ...]]] = {}
        for name in spec.tasks:
            task = load_task(find_task(name))
            split = load_split(task, data_root(spec.data, name), task.data.query)
            examples = list({e.media_id: e for e in split.examples if len(e.media) == 1}.values())[: spec.limit]
            if not examples or not all(isinstance(e.media[0], Image) for e in examples):
                raise DataError(f"evaluate: task '{name}' is not about single pictures.")
            if not split.candidates and not all(e.references for e in examples):
                raise DataError(f"evaluate: task '{name}' has neither classes nor reference texts.")
            self.tasks[name] = examples, split.candidates

    @torch.inference_mode()
    def scores(self, towers: Contrastive, device: torch.device) -> dict[str, float]:
        """`TASK accuracy`, or `TASK image_to_text_r@1` to `TASK text_to_image_r@10`; all between 0 and 100."""
        values: dict[str, float] = {}
        for name, (examples, classes) in self.tasks.items():
            images = torch.cat(
                [self._images(towers, examples[i : i + AT_ONCE], device) for i in range(0, len(examples), AT_ONCE)]
            )
            if classes:
                written = [t.replace("{}", c) for c in classes for t in self.spec.templates]
                embedded = self._texts(towers, written, device).view(len(classes), len(self.spec.templates), -1)
                right = torch.tensor([-1 if e.target is None else e.target for e in examples])
                hits = classify(images, class_embeddings(embedded)).cpu() == right
                values[f"{name} accuracy"] = 100 * float(hits.float().mean())
            else:
                references = [(i, text) for i, e in enumerate(examples) for text in e.references]
                texts = self._texts(towers, [text for _, text in references], device)
                recalls = retrieval_recall(images, texts, [i for i, _ in references])
                values |= {f"{name} {key}": 100 * value for key, value in recalls.items()}
        return values

    def _images(self, towers: Contrastive, examples: Sequence[Example], device: torch.device) -> Tensor:
        pixels = []
        for example in examples:
            picture = example.media[0]
            assert isinstance(picture, Image)
            pixels.append(self.look.picture(picture).pixels[0])
        return towers.embed_images(normalised(torch.stack(pixels).to(device), self.look.preprocess)).float()

    def _texts(self, towers: Contrastive, texts: Sequence[str], device: torch.device) -> Tensor:
        parts = []
        for i in range(0, len(texts), AT_ONCE):
            tokens, real = self.texts(texts[i : i + AT_ONCE])
            parts.append(towers.embed_texts(tokens.to(device), real.to(device)).float())
        return torch.cat(parts)
