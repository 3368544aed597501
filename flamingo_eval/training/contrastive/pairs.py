"""Samples of any data set as pairs of a picture and a text, and the part of a batch that one rank embeds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Any, Self

import torch
from tokenizers import Tokenizer as FastTokenizer
from torch import Tensor

from flamingo_eval.models.config import PreprocessConfig
from flamingo_eval.training.bridge.feed import reader_of
from flamingo_eval.training.contrastive.recipe import ContrastiveRecipe
from flamingo_eval.training.streams.samples import BrokenSample, Look, Picture, Sample, Text
from flamingo_eval.training.streams.stream import Opener, Stream, StreamEndedError


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """uint8[3, size, size] and its caption."""

    pixels: Tensor
    text: str


def as_pair(sample: Sample, rng: Random) -> Pair:
    """The one picture of a sample and its learned text. Raises BrokenSample for other samples."""
    del rng
    pictures = [part for part in sample.parts if isinstance(part, Picture)]
    text = "".join(part.text for part in sample.parts if isinstance(part, Text) and part.learned).strip()
    if len(pictures) != 1 or len(pictures[0].pixels) != 1:
        raise BrokenSample(f"{len(pictures)} pictures, or a clip; expected one picture")
    if not text:
        raise BrokenSample("no text")
    return Pair(pictures[0].pixels[0], text)


@dataclass(frozen=True, slots=True)
class PairsBatch:
    """This rank's pairs of an update, and the positions of the streams after it. `ended`: a data set has ended."""

    pairs: Sequence[Pair]
    state: Mapping[str, Any]
    ended: str = ""


class PairsFeed:
    """The pairs of a recipe for one of several ranks, read one update ahead. Use it as a context."""

    def __init__(
        self,
        recipe: ContrastiveRecipe,
        folder: Path,
        preprocess: PreprocessConfig,
        report: Callable[[str], None],
        rank: int,
        ranks: int,
    ) -> None:
        """Raises DataError and ConfigError if the files of a data set are invalid."""
        self.recipe, self.rank, self.ranks = recipe, rank, ranks
        self.openers: dict[str, Opener[Pair]] = {}
        for spec in recipe.data:
            stream = Stream(spec.name, reader_of(spec, folder), recipe.seed, spec.block, spec.at_end)
            self.openers[spec.name] = Opener(stream, Look(preprocess), as_pair, spec.broken, report)
        self._pool = ThreadPoolExecutor(1)
        self._coming: Future[PairsBatch] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def restore(self, state: Mapping[str, Any]) -> None:
        """Resume from a batch's `state`."""
        for name, opener in self.openers.items():
            opener.restore(state[name], counts=self.rank == 0)

    def next(self) -> PairsBatch:
        """The next batch; starts to prepare the one after it. Raises DataError."""
        coming = self._coming or self._pool.submit(self._prepare)
        batch = coming.result()
        self._coming = None if batch.ended else self._pool.submit(self._prepare)
        return batch

    def _prepare(self) -> PairsBatch:
        pairs: list[Pair] = []
        for spec in self.recipe.data:
            opener = self.openers[spec.name]
            epoch = opener.stream.position.epoch
            try:
                samples = opener.stream.take(spec.batch)
            except StreamEndedError as ended:
                opener.judge(whole_pass=True)
                return PairsBatch((), {}, str(ended))
            pairs += opener.open(samples[self.rank :: self.ranks])
            opener.judge(whole_pass=opener.stream.position.epoch > epoch)
        state = {
            name: {"position": asdict(o.stream.position), "opened": o.tally.opened, "broken": o.tally.broken}
            for name, o in self.openers.items()
        }
        return PairsBatch(pairs, state)


class TextMaker:
    """Texts to padded token ids."""

    def __init__(self, fast: FastTokenizer, context: int) -> None:
        fast.no_padding()
        fast.no_truncation()
        self.fast, self.context = fast, context

    @property
    def vocabulary(self) -> int:
        """One more than the highest id."""
        return 1 + max(self.fast.get_vocab(with_added_tokens=True).values())

    def __call__(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """-> ids int64[N, S], and which of them are not padding, bool[N, S]"""
        ids = [self.fast.encode(text).ids[: self.context] or [0] for text in texts]
        width = max(map(len, ids))
        tokens = torch.tensor([row + [0] * (width - len(row)) for row in ids])
        real = torch.arange(width) < torch.tensor([len(row) for row in ids])[:, None]
        return tokens, real
