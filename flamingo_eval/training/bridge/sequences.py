"""Samples -> token sequences -> padded batches.

Shapes: B sequences, S tokens, M pictures of a sequence, n learned tokens.

A sample is tokenised as a whole, like a prompt in evaluation, so training and evaluation have the same tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any

import torch
from torch import Tensor

from flamingo_eval.models.tokenizer import Tokenizer
from flamingo_eval.records import EndOfChunk, Pixels, Prompt
from flamingo_eval.training.streams.samples import BrokenSample, Part, Picture, Sample, Text

MULTIPLE = 4  # lengths are padded to a multiple of this: few shapes


@dataclass(frozen=True, slots=True, eq=False)
class TokenSequence:
    """One tokenised sample; `sees`: the picture of each token, 1-based, 0 for none."""

    ids: tuple[int, ...]
    learned: tuple[bool, ...]
    sees: tuple[int, ...]
    pictures: tuple[Tensor, ...]  # each uint8[T, 3, size, size]


class SequenceMaker:
    """Samples to sequences of at most `tokens` tokens and `pictures` pictures."""

    def __init__(self, tokenizer: Tokenizer, tokens: int, pictures: int) -> None:
        self.tokenizer, self.tokens, self.pictures = tokenizer, tokens, pictures
        self.begin = tuple(tokenizer.fast.encode("").ids)  # tokens that the tokenizer puts before every text

    def __call__(self, sample: Sample, rng: Random) -> TokenSequence:
        """Raises BrokenSample if the text contains a special token, or if no learned token is left."""
        if sample.cut == "chunks":
            sequence = self._shortened_by_chunks(sample)
        else:
            sequence = self._read(sample.parts)
            if len(sequence.ids) > self.tokens or len(sequence.pictures) > self.pictures:
                sequence = self._window(sequence, rng if sample.cut == "window" else None)
        if sample.next_picture and rng.random() < sample.next_picture:
            sequence = replace(sequence, sees=next_pictures(sequence.sees, len(sequence.pictures)))
        if not any(sequence.learned[1:]):
            raise BrokenSample(f"no text to learn within {self.tokens} tokens and {self.pictures} pictures")
        return sequence

    def _read(self, parts: Sequence[Part]) -> TokenSequence:
        config = self.tokenizer.config
        pictures: list[Tensor] = []
        plain: list[str | Pixels | EndOfChunk] = []
        learned: list[bool] = []
        for part in parts:
            if isinstance(part, Text):
                for token in (config.image, config.end_of_chunk):
                    if token in part.text:
                        raise BrokenSample(f"its text holds '{token}', which is a special token")
                if part.text:
                    plain.append(part.text)
                    learned.append(part.learned)
            elif isinstance(part, Picture):
                pictures.append(part.pixels)
                plain.append(Pixels(part.pixels))
                learned.append(False)
            else:
                plain.append(part)
                learned.append(bool(learned) and learned[-1])  # the end of the learned text
        pieces = self.tokenizer.pieces(Prompt(plain))
        encoding = self.tokenizer.fast.encode("".join(text for text, _ in pieces))
        spans, place = [], 0
        for (text, _), counts in zip(pieces, learned, strict=True):
            if counts:
                spans.append((place, place + len(text)))
            place += len(text)
        return TokenSequence(
            tuple(encoding.ids),
            tuple(_covered(encoding.offsets, spans)),
            tuple(self.tokenizer.sees(pieces, encoding)),
            tuple(pictures),
        )

    def _shortened_by_chunks(self, sample: Sample) -> TokenSequence:
        """An episode without the first demonstrations that do not fit."""
        parts = sample.parts
        while True:
            sequence = self._read(parts)
            if len(sequence.ids) <= self.tokens and len(sequence.pictures) <= self.pictures:
                return sequence
            end = next((i for i, part in enumerate(parts) if isinstance(part, EndOfChunk)), len(parts))
            if end + 1 >= len(parts):
                raise BrokenSample(
                    f"one demonstration has {len(sequence.ids)} tokens, more than {self.tokens}"
                    if len(sequence.ids) > self.tokens
                    else f"one demonstration has more than {self.pictures} pictures"
                )
            parts = parts[end + 1 :]

    def _window(self, sequence: TokenSequence, rng: Random | None) -> TokenSequence:
        """Tokens that fit: the first ones, or (`rng`) a random part of a document with a picture."""
        begin = len(self.begin) if sequence.ids[: len(self.begin)] == self.begin else 0
        room = self.tokens - begin
        first = begin
        if rng is not None and len(sequence.ids) > self.tokens:
            first = begin + rng.randrange(len(sequence.ids) - begin - room + 1)
            sees = (0, *sequence.sees)
            tags = [i for i in range(begin, len(sequence.ids)) if sees[i + 1] > sees[i]]
            if tags and not any(first <= tag < first + room for tag in tags):
                first = max((tag for tag in tags if tag < first), default=tags[0])
        last = min(first + room, len(sequence.ids))
        seen_before = sequence.sees[first - 1] if first else 0
        kept = [s for s in dict.fromkeys(sequence.sees[first:last]) if s > seen_before][: self.pictures]
        limit = kept[-1] if kept else seen_before
        while last > first and sequence.sees[last - 1] > limit:
            last -= 1
        places = [*range(begin), *range(first, last)]
        own = [0] * begin + [max(sequence.sees[i] - seen_before, 0) for i in range(first, last)]
        return TokenSequence(
            tuple(sequence.ids[i] for i in places),
            tuple(sequence.learned[i] for i in places),
            tuple(own),
            sequence.pictures[seen_before:limit],
        )


def next_pictures(sees: Sequence[int], pictures: int) -> tuple[int, ...]:
    """Each token sees the picture after it instead of the last one before it (v2 A.3.1); none after the last."""
    return tuple(s + 1 if s < pictures else 0 for s in sees)


def _covered(offsets: Sequence[tuple[int, int]], spans: Sequence[tuple[int, int]]) -> list[bool]:
    """Which tokens (character ranges, in order) overlap one of the spans."""
    out, i = [], 0
    for begin, end in offsets:
        while i < len(spans) and spans[i][1] <= begin:
            i += 1
        out.append(end > begin and i < len(spans) and spans[i][0] < end)
    return out


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Padded sequences. `picked` int64[n]: places (of B x S) whose next token is learned; `targets` int64[n]: it.

    `pixels`: pictures by their number of frames, each uint8[N, T, 3, size, size]; `places` int64[B, M]: which of all of
    them (in that order) a sequence's pictures are, any if it has fewer. `positions` int64[B, S] and `mask`
    bool[B, S, S] are those of packed sequences alone.
    """

    tokens: Tensor
    sees: Tensor
    picked: Tensor
    targets: Tensor
    pixels: tuple[Tensor, ...]
    places: Tensor
    positions: Tensor | None = None
    mask: Tensor | None = None
    real: int = 0  # tokens without padding
    pictures: int = 0

    def to(self, device: torch.device) -> Batch:
        """The batch on a device."""
        moved: dict[str, Any] = {
            name: value.to(device, non_blocking=True)
            for name in ("tokens", "sees", "picked", "targets", "places", "positions", "mask")
            if isinstance(value := getattr(self, name), Tensor)
        }
        return replace(self, **moved, pixels=tuple(group.to(device, non_blocking=True) for group in self.pixels))


def collate(sequences: Sequence[TokenSequence], size: int, packing: tuple[int, int] | None = None) -> Batch:
    """One batch of sequences; `size`: side of a picture. `packing`: the most tokens and pictures of a packed row.

    Without sequences or pictures, empty ones are used, because every rank must run every layer.
    """
    rows = _packed(sequences, *packing) if packing else [[sequence] for sequence in sequences]
    lengths = [sum(len(s.ids) for s in row) for row in rows]
    length = -(-max(lengths, default=2) // MULTIPLE) * MULTIPLE
    count = max(len(rows), 1)
    tokens, sees = torch.zeros(count, length, dtype=torch.long), torch.zeros(count, length, dtype=torch.long)
    positions = torch.arange(length).repeat(count, 1)
    owner = torch.full((count, length), -1)
    picked: list[int] = []
    targets: list[int] = []
    pictures: list[list[Tensor]] = []
    for r, row in enumerate(rows):
        start, own = 0, list[Tensor]()
        for number, s in enumerate(row):
            end = start + len(s.ids)
            tokens[r, start:end] = torch.tensor(s.ids)
            sees[r, start:end] = torch.tensor([picture + len(own) if picture else 0 for picture in s.sees])
            positions[r, start:end] = torch.arange(len(s.ids))
            owner[r, start:end] = number
            for i in range(1, len(s.ids)):
                if s.learned[i]:
                    picked.append(r * length + start + i - 1)
                    targets.append(s.ids[i])
            own += s.pictures
            start = end
        pictures.append(own)
    pixels, places = _grouped(pictures, size, count)
    alone = not packing
    same = owner[:, :, None] == owner[:, None, :]
    causal = torch.ones(length, length, dtype=torch.bool).tril()
    return Batch(
        tokens,
        sees,
        torch.tensor(picked, dtype=torch.long),
        torch.tensor(targets, dtype=torch.long),
        pixels,
        places,
        None if alone else positions,
        None if alone else same & causal & (owner >= 0)[:, :, None],
        sum(lengths),
        sum(map(len, pictures)),
    )


def _packed(sequences: Sequence[TokenSequence], tokens: int, pictures: int) -> list[list[TokenSequence]]:
    """Sequences concatenated, in order, while they fit."""
    rows: list[list[TokenSequence]] = []
    n_tokens = n_pictures = 0
    for s in sequences:
        if not rows or n_tokens + len(s.ids) > tokens or n_pictures + len(s.pictures) > pictures:
            rows.append([])
            n_tokens = n_pictures = 0
        rows[-1].append(s)
        n_tokens += len(s.ids)
        n_pictures += len(s.pictures)
    return rows


def _grouped(pictures: Sequence[Sequence[Tensor]], size: int, count: int) -> tuple[tuple[Tensor, ...], Tensor]:
    """Pictures by number of frames, and the indices of each sequence's pictures."""
    flat = [(r, m, picture) for r, own in enumerate(pictures) for m, picture in enumerate(own)]
    places = torch.zeros(count, max((len(own) for own in pictures), default=0) or 1, dtype=torch.long)
    if not flat:
        return (torch.zeros(1, 1, 3, size, size, dtype=torch.uint8),), places
    groups: dict[int, list[tuple[int, int, Tensor]]] = {}
    for r, m, picture in flat:
        groups.setdefault(len(picture), []).append((r, m, picture))
    place = 0
    for group in groups.values():
        for r, m, _ in group:
            places[r, m] = place
            place += 1
    return tuple(torch.stack([picture for _, _, picture in group]) for group in groups.values()), places
