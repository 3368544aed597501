"""Units and replica pools: queries cut, lost, late or poisonous: each has one output and the bytes are the same."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from flamingo_eval.config.specs import DemoSpec, RunSpec
from flamingo_eval.distributed.pool import Message, ReplicaLostError, ReplicaPool
from flamingo_eval.distributed.work_units import MOST_QUERIES, Unit, after_loss, cut
from flamingo_eval.errors import DataError, RunError
from flamingo_eval.records import Episode, Example, Prompt, Split
from flamingo_eval.runs.answer import answer
from flamingo_eval.runs.folder import read_outputs
from flamingo_eval.runs.record import read_run
from flamingo_eval.runs.runner import run
from flamingo_eval.runs.task_data import TaskData, load_data
from tests.support.vqa_spec import vqa_spec


def episode(n: int, picture: str = "") -> Episode:
    return Episode(Example(str(n), (), picture or str(n), {"question": f"q{n}"}), ())


def ids(units: Sequence[Unit]) -> list[str]:
    return [e.query.id for u in units for e in u.episodes]


@pytest.mark.parametrize("n", [0, 1, 15, 16, 17, 1000, 5000])
@pytest.mark.parametrize("replicas", [1, 3, 64])
def test_every_query_is_in_one_unit(n: int, replicas: int) -> None:
    units = cut([episode(i) for i in range(n)], replicas)
    assert sorted(ids(units), key=int) == [str(i) for i in range(n)]
    assert all(0 < len(u.episodes) <= MOST_QUERIES for u in units)
    sizes = [len(u.episodes) for u in units]
    assert sizes == sorted(sizes, reverse=True)  # small ones at the end


def test_queries_of_a_picture_stay_together() -> None:
    units = cut([episode(i, picture=f"p{i % 40}") for i in range(200)], 2)
    assert len(units) > 3
    homes = {
        p: [i for i, u in enumerate(units) if any(e.query.media_id == p for e in u.episodes)] for p in ("p0", "p7")
    }
    assert all(len(where) == 1 for where in homes.values())


def test_a_poison_query_is_alone_after_three_losses() -> None:
    unit = Unit(tuple(episode(i) for i in range(256)))
    for _ in range(3):
        pieces = after_loss(unit, unit.episodes)
        assert ids(pieces) == ids([unit])
        (unit,) = [u for u in pieces if "77" in ids([u])]
    assert unit == Unit((episode(77),))
    assert after_loss(unit, unit.episodes) == [Unit(unit.episodes, losses=1)]


class FakeHandle:
    """Answers in this process; dies at the chosen queries, as often as it is told."""

    def __init__(self, engine: object, deaths: dict[str, int] | None = None, starts_lost: int = 0) -> None:
        self.engine, self.deaths, self.starts_lost = engine, deaths if deaths is not None else {}, starts_lost
        self.answered: list[str] = []

    def ready(self, stop: threading.Event) -> bool:
        if self.starts_lost > 0:
            self.starts_lost -= 1
            raise ReplicaLostError("no memory")
        return not stop.is_set()

    def answers(self, episodes: Sequence[Episode], spec: RunSpec, split: Split) -> Iterator[Message]:
        for output in answer(episodes, spec, split, self.engine):  # type: ignore[arg-type]
            if self.deaths.get(output.id, 0) > 0:
                self.deaths[output.id] -= 1
                raise ReplicaLostError("killed by signal 9")
            self.answered.append(output.id)
            yield Message([output], asked=2, hits=1)


def by_prompt(prompt: Prompt) -> str:
    return f" {len(prompt.parts)} {sum(len(p) for p in prompt.parts if isinstance(p, str))} {prompt.id}"


@pytest.fixture
def work(vqa_root: Path) -> tuple[RunSpec, TaskData]:
    spec = vqa_spec(DemoSpec(shots=2))
    return spec, load_data(spec.task, vqa_root)


def files(folder: Path) -> tuple[str, str]:
    (outputs,), (scores,) = folder.rglob("outputs.jsonl"), folder.rglob("scores.json")
    return outputs.read_text(), scores.read_text()


@pytest.mark.parametrize("replicas", [1, 2, 5])
def test_the_same_bytes_as_one_process(
    work: tuple[RunSpec, TaskData], saying_engine: type, tmp_path: Path, replicas: int
) -> None:
    run(*work, saying_engine(by_prompt), tmp_path / "one")
    pool = ReplicaPool([FakeHandle(saying_engine(by_prompt)) for _ in range(replicas)], max_queries=2)
    record = run(*work, pool, tmp_path / "many")
    assert files(tmp_path / "many") == files(tmp_path / "one")
    assert record.n == 12
    assert pool.stats["units_done"] == pool.stats["units"] >= 2


def test_the_record_counts_units_that_end_after_their_last_answer(
    work: tuple[RunSpec, TaskData], saying_engine: type, tmp_path: Path
) -> None:
    class Slow(FakeHandle):
        def answers(self, episodes: Sequence[Episode], spec: RunSpec, split: Split) -> Iterator[Message]:
            yield from super().answers(episodes, spec, split)
            time.sleep(0.2)

    pool = ReplicaPool([Slow(saying_engine(by_prompt))], max_queries=6)
    record = run(*work, pool, tmp_path)
    counts = read_run(record.folder.run).engine
    assert counts["units_done"] == counts["units"] >= 2


def test_lost_units_are_done_again_without_what_was_answered(
    work: tuple[RunSpec, TaskData], saying_engine: type, tmp_path: Path
) -> None:
    run(*work, saying_engine(by_prompt), tmp_path / "one")
    deaths = {"103": 1, "107": 2}
    replicas = [FakeHandle(saying_engine(by_prompt), deaths, starts_lost=i) for i in (0, 1)]
    pool = ReplicaPool(replicas)
    run(*work, pool, tmp_path / "many")
    assert files(tmp_path / "many") == files(tmp_path / "one")
    assert pool.stats["units_lost"] == 3
    answered = [id for r in replicas for id in r.answered]
    assert len(answered) == len(set(answered)) == 12


def test_a_poison_query_is_named_and_the_rest_is_scored(
    work: tuple[RunSpec, TaskData], saying_engine: type, tmp_path: Path
) -> None:
    spec, data = work
    pool = ReplicaPool([FakeHandle(saying_engine(by_prompt), {"105": 10**6}) for _ in range(2)])
    record = run(replace(spec, on_error="skip"), data, pool, tmp_path)
    assert (record.n, record.n_failed) == (12, 1)
    (failed,) = [o for o in read_outputs(record.folder.outputs)[0] if o.error]
    assert failed.id == "105"
    assert failed.error == "105: 3 replicas died while answering it alone; the last: killed by signal 9"
    with pytest.raises(RunError, match="query 105: 3 replicas died"):
        run(spec, data, ReplicaPool([FakeHandle(saying_engine(by_prompt), {"105": 10**6})]), tmp_path / "stop")


def test_no_replica_that_starts_is_an_error(
    work: tuple[RunSpec, TaskData], saying_engine: type, tmp_path: Path
) -> None:
    pool = ReplicaPool([FakeHandle(saying_engine(by_prompt), starts_lost=99) for _ in range(2)])
    with pytest.raises(RunError, match="no replica can be started; 12 queries"):
        run(*work, pool, tmp_path)


def test_what_a_replica_raises_itself_stops_the_run(
    work: tuple[RunSpec, TaskData], saying_engine: type, tmp_path: Path
) -> None:
    def breaks(prompt: Prompt) -> str:
        raise DataError("cut")

    with pytest.raises(DataError, match="cut"):
        run(*work, ReplicaPool([FakeHandle(saying_engine(breaks))]), tmp_path)


def test_a_driver_that_stopped_goes_on(work: tuple[RunSpec, TaskData], saying_engine: type, tmp_path: Path) -> None:
    run(*work, saying_engine(by_prompt), tmp_path / "one")

    def stops(progress: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(*work, ReplicaPool([FakeHandle(saying_engine(by_prompt))]), tmp_path / "cut", on_progress=stops)
    record = run(*work, ReplicaPool([FakeHandle(saying_engine(by_prompt))]), tmp_path / "cut")
    assert record.resumed == 1
    assert files(tmp_path / "cut") == files(tmp_path / "one")
