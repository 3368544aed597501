"""One data set as an endless or ending stream of samples, in an order fixed by its seed and resumable.

Every pass over the data draws its own order of shards, and shuffles samples within blocks. All ranks iterate over the
same order and open only their own samples: so the global batch is the same for any number of ranks, and a run resumes
exactly from (pass, shard, sample, place in the block).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any, Generic, TypeVar

from flamingo_eval.errors import DataError, FlamingoEvalError, MediaError, PromptError, counted
from flamingo_eval.training.recipe import AtEnd
from flamingo_eval.training.streams.samples import BrokenSample, Look, Raw, Reader, Sample

JUDGED_FROM = 100  # samples; with fewer, one broken sample would be more than one per cent
NAMED = 20  # number of broken samples to name

Ready = TypeVar("Ready")


class StreamEndedError(FlamingoEvalError):
    """A data set with `at_end: stop` has no more samples."""


@dataclass(frozen=True, slots=True)
class Position:
    """The position of a stream: the block that begins at a sample of a shard of a pass, and the index in the block."""

    epoch: int = 0
    block: int = 0  # of this pass
    shard: int = 0  # in this pass's order
    item: int = 0  # of this shard, where the block begins
    used: int = 0  # samples of the block that were taken
    taken: int = 0  # samples in total


@dataclass(slots=True)
class Tally:
    """Samples opened here, and those of them that were broken."""

    opened: int = 0
    broken: int = 0
    names: deque[str] = field(default_factory=lambda: deque(maxlen=NAMED))


class Stream:
    """The order of one data set."""

    def __init__(self, name: str, reader: Reader, seed: int, block: int = 1000, at_end: AtEnd = "repeat") -> None:
        """`block`: samples that are shuffled together, and so kept (unopened) in memory."""
        self.name, self.reader, self.seed, self.block, self.at_end = name, reader, seed, block, at_end
        self.position = Position()
        self._waiting: list[Raw] | None = None
        self._source: Iterator[tuple[int, int, Raw]] | None = None
        self._next = (0, 0)  # shard and sample at which the next block begins
        self._ahead: tuple[int, int, Raw] | None = None

    def go_to(self, position: Position) -> None:
        """Resume from the position of another process."""
        self.position = position
        self._waiting, self._source, self._ahead = None, None, None

    def take(self, n: int) -> list[tuple[int, Raw]]:
        """The next `n` samples with their numbers, fewer at the end of the data. Raises StreamEndedError, DataError."""
        samples: list[tuple[int, Raw]] = []
        while len(samples) < n:
            block = self._block()
            if block is None:
                if samples:
                    return samples
                raise StreamEndedError(
                    f"data set '{self.name}' ended after {counted(self.position.taken, 'sample')} (at_end: stop)."
                )
            place = self.position
            some = block[place.used : place.used + n - len(samples)]
            samples += list(enumerate(some, place.taken))
            self.position = replace(place, used=place.used + len(some), taken=place.taken + len(some))
        return samples

    def _block(self) -> list[Raw] | None:
        """The block of the current position, with samples left; None at the end of the data."""
        if self._waiting is None:
            self._open(self.position.shard, self.position.item)
            self._waiting = self._read_block()
        while self.position.used >= len(self._waiting):
            place = self.position
            if self._ahead is not None:
                shard, item, _ = self._ahead
                self.position = replace(place, block=place.block + 1, shard=shard, item=item, used=0)
            elif place.taken == 0 and not self._waiting:
                raise DataError(f"data set '{self.name}' has no samples: {self._shards()}.")
            elif self.at_end == "stop":
                return None
            else:
                self.position = Position(epoch=place.epoch + 1, taken=place.taken)
                self._open(0, 0)
            self._waiting = self._read_block()
        return self._waiting

    def _open(self, shard: int, item: int) -> None:
        self._source = self._walk(self.position.epoch, shard, item)
        self._ahead = next(self._source, None)

    def _walk(self, epoch: int, shard: int, item: int) -> Iterator[tuple[int, int, Raw]]:
        """The samples of a pass from a place on: shard (in the pass's order), sample, the sample itself."""
        order = list(range(len(self.reader.shards)))
        Random(f"{self.seed}:{self.name}:shards:{epoch}").shuffle(order)
        for i in range(shard, len(order)):
            first = item if i == shard else 0
            for number, raw in enumerate(self.reader.read(order[i], first), first):
                yield i, number, raw

    def _read_block(self) -> list[Raw]:
        """The next samples, shuffled; `_ahead` is then the first one after them."""
        assert self._source is not None
        block: list[Raw] = []
        while self._ahead is not None and len(block) < self.block:
            block.append(self._ahead[2])
            self._ahead = next(self._source, None)
        Random(f"{self.seed}:{self.name}:{self.position.epoch}:{self.position.block}").shuffle(block)
        return block

    def _shards(self) -> str:
        names = self.reader.shards
        return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


class Opener(Generic[Ready]):
    """Opens and prepares samples, counts broken ones, and stops if there are too many."""

    def __init__(
        self,
        stream: Stream,
        look: Look,
        prepare: Callable[[Sample, Random], Ready],
        allowed: float = 0.01,
        report: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`allowed`: the share of samples that may be broken. `report` is called for the first ones."""
        self.stream, self.look, self.prepare, self.allowed, self.report = stream, look, prepare, allowed, report
        self.tally = Tally()

    def restore(self, saved: Mapping[str, Any], counts: bool) -> None:
        """Resume from a saved state; with `counts` (on one rank only) also its counts of broken samples."""
        self.stream.go_to(Position(**saved["position"]))
        if counts:
            self.tally.opened, self.tally.broken = saved["opened"], saved["broken"]

    def open(self, samples: Sequence[tuple[int, Raw]]) -> list[Ready]:
        """The samples that are not broken, in order. Raises DataError if more than the allowed share is broken."""
        ready: list[Ready] = []
        for number, raw in samples:
            rng = Random(f"{self.stream.seed}:{self.stream.name}:sample:{number}")
            self.tally.opened += 1
            try:
                ready.append(self.prepare(raw.load(self.look, rng), rng))
            except (BrokenSample, MediaError, PromptError) as error:
                self._count(raw.name, str(error).splitlines()[0].rstrip("."))
        return ready

    def judge(self, whole_pass: bool = False) -> None:
        """Raise DataError if too many samples were broken: from 100 samples on, or after a whole pass."""
        tally = self.tally
        enough = whole_pass or tally.opened >= JUDGED_FROM
        if enough and tally.broken > self.allowed * tally.opened:
            share = f"{tally.broken:,} of {tally.opened:,} samples are broken, more than {self.allowed:.1%}"
            raise DataError(
                "\n  ".join([f"data set '{self.stream.name}': {share}. The last ones:", *tally.names]),
                fix="Fix or remove them, or allow more with `broken: SHARE` in the recipe.",
            )

    def _count(self, name: str, why: str) -> None:
        self.tally.broken += 1
        self.tally.names.append(f"{name}: {why}.")
        if self.tally.broken <= NAMED:
            last = " (further ones are only counted)" if self.tally.broken == NAMED else ""
            self.report(f"data set '{self.stream.name}': skipped {name}: {why}.{last}")
