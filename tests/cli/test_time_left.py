"""The time left is right within a factor of two after a tenth of the queries, on simulated runs of unequal work."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from flamingo_eval.cli.time_left import TimeLeft

BATCH = 16
SEEDS = range(10)


def simulated(
    seed: int,
    *,
    queries: int = 400,
    shots: int = 4,
    support: int = 200,
    query_cost: float = 0.05,
    picture_cost: float = 0.1,
    warm_up: float = 2.0,
    spread: float = 0.5,
    counted: bool = True,
) -> list[tuple[int, float, float | None]]:
    """A run that answers batches: (queries answered, seconds that were truly left, the estimate) after each.

    A batch costs what its prompts cost, whose lengths are log-normal, and each picture shown for the first time.
    """
    rng = random.Random(seed)
    lengths = [rng.lognormvariate(0, spread) for _ in range(queries)]
    pictures_of = [[f"s{rng.randrange(support)}" for _ in range(shots)] + [f"q{i}"] for i in range(queries)]
    every = {picture for pictures in pictures_of for picture in pictures}
    encoded: set[str] = set()
    now, left, moments = 0.0, TimeLeft(queries, 0.0), []
    for first in range(0, queries, BATCH):
        batch = range(first, min(queries, first + BATCH))
        new = {picture for i in batch for picture in pictures_of[i]} - encoded
        encoded |= new
        seconds = len(new) * picture_cost + sum(lengths[i] for i in batch) * query_cost
        now += (seconds + (warm_up if not first else 0.0)) * rng.uniform(0.9, 1.1)
        for n, i in enumerate(batch):
            left.add(now + n * 1e-4, i + 1, len(encoded) if counted else 0)
        moments.append((batch[-1] + 1, now, left.seconds(now + BATCH * 1e-4, len(every - encoded) if counted else 0)))
    return [(done, now - at, estimate) for done, at, estimate in moments]


CASES = {
    "support pictures are encoded first": {},
    "pictures cost most": {"picture_cost": 0.5},
    "a cold start of a minute": {"warm_up": 60.0},
    "prompts of very different lengths": {"spread": 1.0, "counted": False, "picture_cost": 0.0},
    "32 shots": {"shots": 32},
    "a large support set": {"queries": 3000, "support": 2048},
    "everything in the cache": {"picture_cost": 0.0, "counted": False},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_within_a_factor_of_two_after_a_tenth(name: str) -> None:
    for seed in SEEDS:
        moments = simulated(seed, **CASES[name])  # type: ignore[arg-type]
        total = moments[-1][0]
        for done, truly, estimate in moments:
            if 0.1 * total <= done <= 0.9 * total:
                assert estimate is not None
                assert truly / 2 <= estimate <= truly * 2, (seed, done, truly, estimate)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["support pictures are encoded first", "a large support set", "32 shots"])
def test_it_is_steady(name: str) -> None:
    """From burst to burst the expected end moves by less than a quarter of the whole run."""
    for seed in SEEDS:
        moments = simulated(seed, **CASES[name])  # type: ignore[arg-type]
        whole = moments[0][1] + 1
        ends = [whole - truly + estimate for done, truly, estimate in moments[len(moments) // 10 :] if estimate]
        assert all(abs(after - before) < whole / 4 for before, after in pairwise(ends))


def test_nothing_is_said_before_something_is_known() -> None:
    left = TimeLeft(1000, 0.0)
    assert left.seconds(1.0) is None
    left.add(2.0, 16)
    assert left.seconds(3.0) is None


def test_it_runs_down_between_answers_and_ends_at_nothing() -> None:
    left = TimeLeft(100, 0.0)
    for i in range(1, 6):
        left.add(float(i), 10 * i)
    assert left.seconds(5.0) == pytest.approx(5.0)
    assert left.seconds(7.0) == pytest.approx(3.0)
    assert left.seconds(60.0) == pytest.approx(5.5)  # later than expected: never nothing while something is left
    left.add(10.0, 100)
    assert left.seconds(10.0) == 0.0


def test_a_resumed_run_counts_only_its_own_queries() -> None:
    left = TimeLeft(1000, 0.0, done=900)
    for i in range(1, 6):
        left.add(float(i), 900 + 10 * i)
    assert left.per_second == pytest.approx(10.0)
    assert left.seconds(5.0) == pytest.approx(5.0)


def test_the_first_answer_of_a_batch_is_not_taken_for_the_whole_batch() -> None:
    left = TimeLeft(200, 0.0)
    estimates = []
    for i in range(1, 201):
        batch = -(-i // 16)
        now = 3.0 + 0.5 * batch + 0.0001 * (i % 16)  # 3 s of warming up, then a batch of 16 every half second
        left.add(now, i)
        seconds = left.seconds(now)
        if i >= 33:
            assert seconds is not None
            estimates.append(seconds)
            assert abs(seconds - (0.5 * (13 - batch))) <= 0.3
    assert all(after <= before + 0.3 for before, after in pairwise(estimates))
