"""Data sets -> the batches of one update, prepared during the previous update."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from flamingo_eval.errors import DataError
from flamingo_eval.models.config import PreprocessConfig
from flamingo_eval.training.bridge.recipe import (
    AnyDataSet,
    BridgeRecipe,
    DocumentsSpec,
    EpisodesSpec,
    PairsSpec,
    RowsSpec,
)
from flamingo_eval.training.bridge.sequences import Batch, SequenceMaker, TokenSequence, collate
from flamingo_eval.training.streams.documents import Documents
from flamingo_eval.training.streams.samples import Look, Reader
from flamingo_eval.training.streams.shards import shard_paths
from flamingo_eval.training.streams.stream import Opener, Stream, StreamEndedError
from flamingo_eval.training.streams.table_rows import TableRows
from flamingo_eval.training.streams.tar_pairs import TarPairs
from flamingo_eval.training.streams.task_episodes import TaskEpisodes


def reader_of(spec: AnyDataSet, folder: Path) -> Reader:
    """The files of a data set; relative names are below `folder`. Raises DataError if some are missing or truncated."""
    if isinstance(spec, EpisodesSpec):
        answers_only = spec.loss == "answers"
        return TaskEpisodes(spec.task, spec.shots, spec.data, spec.protocol, spec.text_only, answers_only, spec.symbols)
    paths = shard_paths(spec.name, spec.files, folder)
    if isinstance(spec, PairsSpec):
        return TarPairs(paths, spec.caption, spec.stem)
    if isinstance(spec, DocumentsSpec):
        return Documents(paths, folder / spec.images, spec.incomplete, spec.next_picture)
    assert isinstance(spec, RowsSpec)
    images = folder / spec.images if spec.images else None
    return TableRows(paths, images, spec.columns, spec.stem, spec.question)


@dataclass(frozen=True, slots=True)
class Share:
    """The work of one rank on a data set in one update: its batch in parts, and the number of learned tokens."""

    batches: tuple[Batch, ...]
    learned: int


@dataclass(frozen=True, slots=True)
class Update:
    """The shares of one update by data set, and the streams' positions after it. `ended`: a data set has ended."""

    shares: Mapping[str, Share]
    state: Mapping[str, Any]
    ended: str = ""


class Feed:
    """The mixture of a recipe, for one of several ranks. Use it as a context."""

    def __init__(
        self,
        recipe: BridgeRecipe,
        folder: Path,
        preprocess: PreprocessConfig,
        make: SequenceMaker,
        report: Callable[[str], None],
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        """Raises DataError and ConfigError if the files of a data set are invalid."""
        self.recipe, self.size, self.make, self.rank, self.ranks = recipe, preprocess.size, make, rank, ranks
        self.openers: dict[str, Opener[TokenSequence]] = {}
        for spec in recipe.data:
            stream = Stream(spec.name, reader_of(spec, folder), recipe.seed, spec.block, spec.at_end)
            look = Look(preprocess, spec.frames, spec.fps)
            self.openers[spec.name] = Opener(stream, look, make, spec.broken, report)
        self._pool = ThreadPoolExecutor(1)
        self._coming: tuple[int, Future[Update]] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def restore(self, state: Mapping[str, Any]) -> None:
        """Resume from an Update's `state`; the first rank keeps the counts of broken samples."""
        for name, opener in self.openers.items():
            opener.restore(state[name], counts=self.rank == 0)

    def update(self, number: int) -> Update:
        """The batches of an update; starts to prepare the next. Raises DataError, also for too many broken samples."""
        if self._coming is None or self._coming[0] != number:
            self._coming = (number, self._pool.submit(self._prepare, number))
        prepared = self._coming[1].result()
        self._coming = None if prepared.ended else (number + 1, self._pool.submit(self._prepare, number + 1))
        return prepared

    def _prepare(self, number: int) -> Update:
        specs: Sequence[AnyDataSet] = self.recipe.data
        if self.recipe.mix == "round-robin":
            specs = [specs[number % len(specs)]]
        shares: dict[str, Share] = {}
        for spec in specs:
            opener = self.openers[spec.name]
            epoch = opener.stream.position.epoch
            try:
                samples = opener.stream.take(spec.batch)
            except StreamEndedError as ended:
                opener.judge(whole_pass=True)
                return Update({}, {}, str(ended))
            sequences = opener.open(samples[self.rank :: self.ranks])
            opener.judge(whole_pass=opener.stream.position.epoch > epoch)
            shares[spec.name] = self._share(sequences)
        return Update(shares, self._state())

    def _share(self, sequences: Sequence[TokenSequence]) -> Share:
        parts = self.recipe.accumulate
        packing = (self.recipe.tokens, self.recipe.pictures) if self.recipe.packing else None
        step = -(-len(sequences) // parts)
        groups = [sequences[i * step : (i + 1) * step] for i in range(parts)]
        batches = tuple(collate(group, self.size, packing) for group in groups)
        return Share(batches, sum(len(batch.targets) for batch in batches))

    def _state(self) -> dict[str, Any]:
        return {
            name: {
                "position": asdict(opener.stream.position),
                "opened": opener.tally.opened,
                "broken": opener.tally.broken,
            }
            for name, opener in self.openers.items()
        }


def check_sizes(recipe: BridgeRecipe, ranks: int) -> None:
    """Raise DataError if a data set's batch has fewer samples than there are ranks."""
    small = [f"{d.name} ({d.batch})" for d in recipe.data if d.batch < ranks]
    if small:
        raise DataError(f"{ranks} ranks, but fewer samples per update in {', '.join(small)}.", fix="Raise `batch`.")
