"""The order of a data set: decided by seed and position alone, the same after a stop, for any number of ranks."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest

from flamingo_eval.errors import DataError
from flamingo_eval.models.config import PreprocessConfig
from flamingo_eval.training.streams.samples import BrokenSample, Look, Raw, Sample, Text
from flamingo_eval.training.streams.shards import expanded, shard_paths
from flamingo_eval.training.streams.stream import Opener, Stream, StreamEndedError
from flamingo_eval.training.streams.tar_pairs import TarPairs
from tests.support.shards import pairs, write_tar

LOOK = Look(PreprocessConfig(size=8))


@dataclass(frozen=True, slots=True)
class Numbers:
    """A data set of numbered texts; those in `broken` are none."""

    sizes: tuple[int, ...]
    broken: frozenset[str] = frozenset()

    @property
    def shards(self) -> tuple[str, ...]:
        return tuple(f"shard-{i}" for i in range(len(self.sizes)))

    def read(self, shard: int, start: int) -> Iterator[Raw]:
        for i in range(start, self.sizes[shard]):
            name = f"{shard}.{i}"

            def load(look: Look, rng: Random, name: str = name) -> Sample:
                if name in self.broken:
                    raise BrokenSample("broken on purpose")
                return Sample((Text(name),))

            yield Raw(name, load)


def names(stream: Stream, n: int) -> list[str]:
    return [raw.name for _, raw in stream.take(n)]


def test_a_pass_gives_every_sample_once_and_the_next_pass_in_another_order() -> None:
    stream = Stream("a", Numbers((5, 0, 7, 3)), seed=1, block=4)
    first, second = names(stream, 15), names(stream, 15)
    assert sorted(first) == sorted(second)
    assert len(set(first)) == 15
    assert first != second
    assert names(Stream("a", Numbers((5, 0, 7, 3)), seed=1, block=4), 15) == first
    assert names(Stream("a", Numbers((5, 0, 7, 3)), seed=2, block=4), 15) != first


@pytest.mark.parametrize("stop", range(0, 40, 3))
def test_a_stream_goes_on_exactly_from_its_position(stop: int) -> None:
    whole = names(Stream("a", Numbers((5, 0, 7, 3)), seed=1, block=4), 60)
    stream = Stream("a", Numbers((5, 0, 7, 3)), seed=1, block=4)
    begun = names(stream, stop) if stop else []
    other = Stream("a", Numbers((5, 0, 7, 3)), seed=1, block=4)
    other.go_to(stream.position)
    rest = [name for _ in range(6) for name in names(other, (60 - stop) // 6)]
    assert begun + rest == whole[: stop + len(rest)]


def test_how_much_is_taken_at_once_does_not_matter() -> None:
    whole = names(Stream("a", Numbers((9, 4)), seed=0, block=5), 30)
    stream = Stream("a", Numbers((9, 4)), seed=0, block=5)
    assert [name for n in (1, 7, 2, 13, 7) for name in names(stream, n)] == whole


def test_a_data_set_that_stops_gives_the_rest_and_then_says_so() -> None:
    stream = Stream("pairs", Numbers((5,)), seed=0, at_end="stop")
    assert len(names(stream, 3)) == 3
    assert len(names(stream, 3)) == 2
    with pytest.raises(StreamEndedError, match=r"data set 'pairs' ended after 5 samples \(at_end: stop\)\."):
        stream.take(3)


def test_a_data_set_without_samples_is_no_endless_loop() -> None:
    with pytest.raises(DataError, match="data set 'empty' has no samples: shard-0, shard-1"):
        Stream("empty", Numbers((0, 0)), seed=0).take(1)


def opened(stream: Stream, reports: list[str]) -> Opener[str]:
    def prepare(sample: Sample, rng: Random) -> str:
        del rng
        assert isinstance(sample.parts[0], Text)
        return sample.parts[0].text

    return Opener(stream, LOOK, prepare, report=reports.append)


def test_a_broken_sample_is_skipped_counted_and_named_up_to_a_limit() -> None:
    reports: list[str] = []
    broken = frozenset(f"0.{i}" for i in range(30))
    stream = Stream("a", Numbers((5000,), broken), seed=0)
    opener = opened(stream, reports)
    assert len(opener.open(stream.take(5000))) == 4970
    opener.judge()
    assert (opener.tally.opened, opener.tally.broken) == (5000, 30)
    assert len(reports) == 20
    assert reports[0].startswith("data set 'a': skipped 0.")
    assert "broken on purpose" in reports[0]


def test_more_than_one_per_cent_of_broken_samples_stop_the_run() -> None:
    stream = Stream("a", Numbers((300,), frozenset(f"0.{i}" for i in range(4))), seed=0)
    opener = opened(stream, [])
    opener.open(stream.take(300))
    with pytest.raises(DataError, match=r"4 of 300 samples are broken, more than 1\.0%") as error:
        opener.judge()
    assert "0.3: broken on purpose." in str(error.value)
    few = Stream("b", Numbers((20,), frozenset(["0.3"])), seed=0)
    judged = opened(few, [])
    judged.open(few.take(20))
    judged.judge()  # too early to tell
    with pytest.raises(DataError, match="1 of 20"):
        judged.judge(whole_pass=True)


@pytest.mark.slow
def test_memory_stays_flat_over_many_samples(tmp_path: Path) -> None:
    paths = tuple(write_tar(tmp_path / f"{i}.tar", pairs(150, 150 * i)) for i in range(4))
    stream = Stream("a", TarPairs(paths), seed=0, block=50)
    opener: Opener[int] = Opener(stream, LOOK, lambda sample, rng: len(sample.parts))
    tracemalloc.start()
    try:
        for _ in range(10):  # what the libraries keep for good
            opener.open(stream.take(100))
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(10):
            opener.open(stream.take(100))
        gc.collect()
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert stream.position.epoch >= 3
    assert grown < 50_000, f"{grown} bytes for 1,000 samples"


def test_shard_names_count_as_in_a_shell() -> None:
    assert expanded("a-{008..011}.tar") == ["a-008.tar", "a-009.tar", "a-010.tar", "a-011.tar"]
    assert expanded("{1..2}/x{9..10}") == ["1/x9", "1/x10", "2/x9", "2/x10"]
    assert expanded("plain.tar") == ["plain.tar"]
    with pytest.raises(DataError, match=r"\{3\.\.1\}"):
        expanded("a-{3..1}.tar")


def test_every_missing_shard_is_named(tmp_path: Path) -> None:
    for i in (0, 2):
        write_tar(tmp_path / f"shard-{i:03d}.tar", pairs(1))
    (tmp_path / "shard-003.tar").touch()
    with pytest.raises(DataError) as error:
        shard_paths("laion", ["shard-{000..004}.tar", "other-*.tar"], tmp_path)
    text = str(error.value)
    assert "data set 'laion': 4 problems" in text
    for words in ("shard-001.tar is missing", "shard-004.tar is missing", "shard-003.tar is empty", "no file matches"):
        assert words in text
    names_there = [path.name for path in shard_paths("laion", ["shard-00[02].tar", str(tmp_path / "*0.tar")], tmp_path)]
    assert names_there == ["shard-000.tar", "shard-002.tar"]
