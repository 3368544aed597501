"""The live table of several replicas: one frame, as text."""

from __future__ import annotations

from io import StringIO

from rich.console import Console

from flamingo_eval.cli.pool_table import MOST_ROWS, WIDTH, PoolTable, known
from flamingo_eval.distributed.pool import ReplicaPool, ReplicaStatus


def frame(pool: ReplicaPool, done: int, width: int = 80) -> str:
    table = PoolTable("vqav2@sample 4-shot seed 0", 400, pool)
    table.screen.height = 40  # whatever terminal the tests have
    for i, status in enumerate(pool.statuses):
        status.queries += 10 * (i + 1)
    table.update(0)
    table.update(done, "vqa_accuracy 61.2")
    screen = Console(width=width, record=True, file=StringIO())
    screen.print(table.table())
    return screen.export_text()


def pool_of(*statuses: ReplicaStatus) -> ReplicaPool:
    pool = ReplicaPool([object()] * len(statuses))  # type: ignore[list-item]
    pool.statuses[:] = statuses
    return pool


def test_a_frame_shows_each_replica_and_the_whole() -> None:
    pool = pool_of(
        ReplicaStatus("working", units=3, lost=1, asked=10, hits=9),
        ReplicaStatus("loading"),
        ReplicaStatus("given up", lost=3),
    )
    text = frame(pool, 30)
    assert "vqav2@sample 4-shot seed 0: vqa_accuracy 61.2" in text
    rows = [line.split() for line in text.splitlines()]
    assert ["0", "working", "3", "1", "10"] in [r[:5] for r in rows]
    assert any(r[:2] == ["1", "loading"] for r in rows)
    assert any(r[:3] == ["2", "given", "up"] for r in rows)
    (total,) = [r for r in rows if r[:1] == ["all"]]
    assert "30/400" in total
    assert " left, " in text
    assert total[-2:] == ["90", "%"]
    assert "units a minute" in text
    assert "given up," not in text
    assert max(map(len, text.splitlines())) <= 80


def test_the_largest_run_fits_on_a_terminal() -> None:
    pool = pool_of(
        *(ReplicaStatus("given up", units=841, lost=12, queries=214_000, asked=10, hits=9) for _ in range(2))
    )
    table = PoolTable("vqav2 32-shot seed 0", 214_354, pool)
    table.update(0)
    pool._counts |= {"units": 3363, "units_done": 1682, "units_lost": 24, "queries_given_up": 1}
    for status in pool.statuses:
        status.queries += 107_177
    table.began -= 40_000.0
    table.update(107_177, "vqa_accuracy 61.2 [2 replicas]")
    screen = Console(width=WIDTH, record=True, file=StringIO())
    screen.print(table.table())
    text = screen.export_text()
    assert "1682/3363" in text
    assert "107,177/214,354" in text
    assert "11.1 h left" in text
    assert "2.5 units a minute, 1 query given up" in text
    assert "…" not in text


def test_of_many_replicas_those_in_trouble_are_shown() -> None:
    statuses = [ReplicaStatus("working") for _ in range(40)]
    statuses[37].state = "given up"
    text = frame(pool_of(*statuses), 1)
    assert any(line.split()[:3] == ["37", "given", "up"] for line in text.splitlines())
    assert f"{40 - MOST_ROWS} more" in text


def test_a_low_terminal_shows_fewer_replicas_and_still_the_whole() -> None:
    table = PoolTable("vqav2", 400, pool_of(*(ReplicaStatus("working") for _ in range(40))))
    table.screen.height = 20
    screen = Console(width=80, record=True, file=StringIO())
    screen.print(table.table())
    text = screen.export_text()
    assert len(text.rstrip().splitlines()) <= 20
    assert "29 more" in text
    assert "all" in text


def test_nothing_asked_is_no_rate() -> None:
    assert known([ReplicaStatus()]) == "-"
    assert known([ReplicaStatus(asked=4, hits=1), ReplicaStatus(asked=4, hits=3)]) == "50 %"
