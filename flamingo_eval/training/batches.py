"""Episodes -> padded tensors. Shapes: B episodes, S tokens, M pictures an episode."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer
from torch import Tensor

from flamingo_eval.training.sample_episodes import Chunk
from flamingo_eval.training.vocabulary import BEGIN, END_OF_CHUNK, IMAGE, PAD

MULTIPLE = 32  # lengths are padded to a multiple of this: few shapes, few kernels to compile


@dataclass(frozen=True, slots=True)
class Batch:
    """`tokens` int64[B, S]; `weights` float32[B, S] of predicting each token; `image_of_token` int64[B, S], 1-based;
    `scenes` int64[B, M], -1 if an episode has fewer pictures; `others` int64[B, M] and `shares` float32[B, M]: the
    scenes that these are blended with, and how much (0: not at all); `repeats` bool[B, S]: answer tokens of an answer
    that an earlier chunk of the episode has shown.
    """

    tokens: Tensor
    weights: Tensor
    image_of_token: Tensor
    scenes: Tensor
    others: Tensor
    shares: Tensor
    repeats: Tensor

    def to(self, device: torch.device) -> Batch:
        """The batch on a device."""
        return Batch(*(getattr(self, name).to(device) for name in self.__slots__))


class Collator:
    """Episodes -> Batch, with a cache of the tokens of stems and answers."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.known: dict[str, list[int]] = {}
        self.begin, self.image, self.end, self.pad = (
            tokenizer.encode(t, add_special_tokens=False).ids[0] for t in (BEGIN, IMAGE, END_OF_CHUNK, PAD)
        )

    @property
    def form_ids(self) -> list[int]:
        """Ids of the tokens that are in every demonstration, whatever its picture."""
        stems = self.ids("Output:") + self.ids("Question: Answer:?")
        return sorted({self.begin, self.image, self.end, *stems})

    def ids(self, text: str) -> list[int]:
        """Token ids of a piece of text, without the begin token."""
        if text not in self.known:
            self.known[text] = self.tokenizer.encode(text, add_special_tokens=False).ids
        return self.known[text]

    def __call__(self, episodes: Sequence[Sequence[Chunk]], other_tokens: float, in_words: bool) -> Batch:
        """`other_tokens` is the weight of tokens that are neither answer nor its end."""
        rows = [self._row(episode, other_tokens, in_words) for episode in episodes]
        length = -(-max(len(r[0]) for r in rows) // MULTIPLE) * MULTIPLE
        pictured = [[c for c in episode if c.scene is not None] for episode in episodes]
        images = max(1, *map(len, pictured))
        blends = [[c.blend or (0, 0.0) for c in row] + [(0, 0.0)] * (images - len(row)) for row in pictured]
        return Batch(
            torch.tensor([r[0] + [self.pad] * (length - len(r[0])) for r in rows]),
            torch.tensor([r[1] + [0.0] * (length - len(r[1])) for r in rows]),
            torch.tensor([r[2] + [0] * (length - len(r[2])) for r in rows]),
            torch.tensor([[c.scene for c in row] + [-1] * (images - len(row)) for row in pictured]),
            torch.tensor([[other for other, _ in row] for row in blends]),
            torch.tensor([[share for _, share in row] for row in blends]),
            torch.tensor([r[3] + [False] * (length - len(r[3])) for r in rows]),
        )

    def _row(
        self, episode: Sequence[Chunk], other_token: float, in_words: bool
    ) -> tuple[list[int], list[float], list[int], list[bool]]:
        ids, weights, image_of_token, repeats = [self.begin], [0.0], [0], [False]
        media: dict[str, None] = {}
        images = 0
        for chunk in episode:
            images += chunk.scene is not None
            picture = [] if chunk.scene is None else [self.image, *(self.ids(chunk.words) if in_words else [])]
            stem = [*picture, *self.ids(chunk.stem)]
            answer = [*self.ids(f" {chunk.answer}"), self.end]
            # without its picture a demonstration cannot be answered; only its form is learned
            weight = 1.0 if chunk.scene is not None else other_token
            ids += stem + answer
            weights += [other_token] * len(stem) + [weight] * len(answer)
            image_of_token += [images] * (len(stem) + len(answer))
            repeats += (
                [False] * len(stem) + [chunk.answer in media and chunk.scene is not None] * (len(answer) - 1) + [False]
            )
            media[chunk.answer] = None
        return ids, weights, image_of_token, repeats
