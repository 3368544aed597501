"""The simulation of many replicas against cases that can be worked out by hand."""

from __future__ import annotations

import pytest

from benchmarks.simulate import Scene, simulate, vqav2_sized
from flamingo_eval.distributed.work_units import cut


def test_one_replica_takes_as_long_as_all_queries() -> None:
    run = simulate(vqav2_sized(1000), 1, Scene(query=0.1, start=10.0, write=0.0, losses=0.0), [1.0])
    assert run.seconds == pytest.approx(110.0)
    assert run.efficiency == pytest.approx(100 / 110)
    assert (run.lost, run.tail) == (0, 0.0)


def test_replicas_share_the_work_and_end_within_a_small_unit_of_each_other() -> None:
    episodes = vqav2_sized(4000)
    run = simulate(episodes, 8, Scene(query=0.1, start=0.0, write=0.0, losses=0.0), [1.0])
    assert run.units == len(cut(episodes, 8))
    assert 50.0 <= run.seconds < 53.0
    assert run.tail < 40 * 0.1  # of the last, small units


def test_a_slow_writer_is_the_bottleneck() -> None:
    run = simulate(vqav2_sized(4000), 8, Scene(query=0.1, start=0.0, write=0.05, losses=0.0), [1.0])
    assert run.seconds >= 4000 * 0.05
    assert run.writer_busy > 0.9


def test_what_is_lost_is_done_again() -> None:
    """A replica that dies every ten seconds on average still ends, later, with more units."""
    scene = Scene(query=0.1, start=1.0, write=0.0, losses=360.0)
    run = simulate(vqav2_sized(2000), 4, scene, [1.0])
    calm = simulate(vqav2_sized(2000), 4, Scene(0.1, 1.0, 0.0, 0.0), [1.0])
    assert run.lost > 3
    assert run.units > calm.units
    assert run.seconds > calm.seconds
