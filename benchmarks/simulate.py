"""Simulates a run over many replicas: python -m benchmarks.simulate. A model runs only with --record.

A discrete-event simulation of distributed/pool.py over VQAv2's size: units are divided and, after a loss, divided again
by the real code; the time of a unit is drawn from recorded units; the writer takes the measured time of the real one.
"""

from __future__ import annotations

import argparse
import heapq
import json
import random
import statistics
import tempfile
import time
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flamingo_eval.config.specs import ModelIdentity, RunSpec
from flamingo_eval.distributed.work_units import MOST_QUERIES, Unit, after_loss, cut
from flamingo_eval.metrics.running import RunningScore
from flamingo_eval.records import Episode, Example, Output, Split
from flamingo_eval.runs.plan import Choices, PlannedRun, plan_runs
from flamingo_eval.runs.questions import load_questions
from flamingo_eval.runs.runner import Progress, run

RECORDED = Path(__file__).with_name("unit_times.json")
QUERIES, QUESTIONS_A_PICTURE = 214_354, 5
REPLICAS = (1, 8, 64, 512)
UNIT_RECORDED = 32
NOBODY = ModelIdentity("none", "0", "cpu", "float32")
STARTED = -1  # instead of outputs: a replica has loaded its model again


@dataclass(frozen=True, slots=True)
class Scene:
    """Settings: mean seconds per query, to start a replica, and of the writer per output; losses per hour."""

    query: float
    start: float
    write: float
    losses: float  # losses of one replica per hour


@dataclass(frozen=True, slots=True)
class Found:
    """Seconds and counts of one simulated run. `tail`: from the first idle replica to the end."""

    replicas: int
    seconds: float
    efficiency: float
    tail: float
    units: int
    lost: int
    writer_busy: float


def simulate(
    episodes: Sequence[Episode], replicas: int, scene: Scene, factors: Sequence[float], seed: int = 0
) -> Found:
    """Simulate one run. `factors`: durations of recorded units, divided by their mean."""
    rng = random.Random(f"{seed}:{replicas}")
    waiting = deque(cut(episodes, replicas, MOST_QUERIES))
    n_units, lost, busy, end = len(waiting), 0, 0.0, 0.0
    writer = 0.0  # when it will have written everything received so far
    first_idle: float | None = None
    in_flight: list[tuple[float, int, int, list[Unit]]] = []  # time, replica, received outputs, units to repeat
    idle: list[tuple[float, int]] = [(scene.start, r) for r in range(replicas)]
    running = 0
    while waiting or running:
        while waiting and idle:
            free, replica = idle.pop()
            unit = waiting.popleft()
            running += 1
            each = scene.query * rng.choice(factors)
            seconds = len(unit.episodes) * each
            dies = rng.expovariate(scene.losses / 3600) if scene.losses else float("inf")
            done = int(len(unit.episodes) * min(1.0, dies / seconds))
            again = after_loss(unit, unit.episodes[done:]) if dies < seconds else []
            busy += done * each
            heapq.heappush(in_flight, (free + min(seconds, dies), replica, done, again))
        now, replica, done, again = heapq.heappop(in_flight)
        if done != STARTED:
            writer = max(writer, now) + done * scene.write
            end = max(end, now)
            running -= 1
        if again:
            lost += 1
            n_units += len(again)
            waiting.extend(again)
            heapq.heappush(in_flight, (now + scene.start, replica, STARTED, []))  # it loads the model again
        else:
            idle.append((now, replica))
        idle = [(now, r) for _, r in idle]  # idle replicas take the units that were returned after a loss
        if not waiting and first_idle is None:
            first_idle = now
    whole = max(end, writer)
    written = len(episodes) * scene.write
    tail = whole - (first_idle if first_idle is not None else whole)
    return Found(replicas, whole, busy / (replicas * whole), tail, n_units, lost, written / whole)


def vqav2_sized(queries: int = QUERIES) -> list[Episode]:
    """Episodes with the fields that units need: ids, and which queries share a picture."""
    return [Episode(Example(str(i), (), str(i // QUESTIONS_A_PICTURE)), ()) for i in range(queries)]


def writer_seconds(repeats: int = 5) -> float:
    """Seconds of the real writer of a run folder for one output: its line, the flush, the running score."""
    (planned,) = plan_runs(load_questions(["vqav2"], "flamingo")[0], Choices())
    return statistics.median(_write_once(planned) for _ in range(repeats))


class _Instant:
    """Answers at once, so the time between the first and the last answer is the writer's."""

    stats: Mapping[str, Any] = {}

    def outputs(self, episodes: Collection[Episode], spec: RunSpec, split: Split) -> Iterator[Output]:
        self.began = time.perf_counter()
        for e in episodes:
            yield Output(e.query.id, tuple(s.id for s in e.shots), 64, " harbor", "harbor")
        self.seconds = (time.perf_counter() - self.began) / len(episodes)


def _write_once(planned: PlannedRun) -> float:
    source = _Instant()
    running = RunningScore(planned.task.metrics[0], planned.prompt.metric_dialect, planned.data.queries)

    def watch(progress: Progress) -> None:
        running.add(progress.newest)

    with tempfile.TemporaryDirectory() as out:
        run(planned.spec(NOBODY), planned.data, source, Path(out), episodes=list(planned.episodes()), on_progress=watch)
    return source.seconds


def record() -> None:
    """Measure units of the sample with the tiny checkpoint, one after the other, and store their times."""
    from flamingo_eval.distributed.replica import Replica

    replica = Replica("tiny", device="cpu")
    (planned,) = plan_runs(load_questions(["vqav2"], "flamingo")[0], Choices())
    spec, times = planned.spec(replica.identity()), []
    with closing(replica.backend):
        for unit in cut(list(planned.episodes()), 1, UNIT_RECORDED):
            began = time.perf_counter()
            n = sum(len(sent.outputs) for sent in replica.answers(unit.episodes, spec, planned.data.queries))
            times.append({"queries": n, "seconds": round(time.perf_counter() - began, 4)})
    RECORDED.write_text(json.dumps(times[1:], indent=1) + "\n")  # the first opens every support picture


def main() -> None:
    """Print one table per setting."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.simulate", description=__doc__)
    parser.add_argument("--record", action="store_true", help="measure the units again, with the tiny checkpoint")
    parser.add_argument(
        "--seconds", type=float, help="mean seconds per query; default: as recorded, and 0.15 for a large model"
    )
    parser.add_argument("--start", type=float, default=60.0, help="seconds until a replica has loaded its model")
    parser.add_argument("--losses", type=float, default=0.01, help="losses per replica and hour")
    args = parser.parse_args()
    if args.record:
        record()
    units = json.loads(RECORDED.read_text())
    each = [u["seconds"] / u["queries"] for u in units]
    mean = statistics.fmean(each)
    factors = [e / mean for e in each]
    write = writer_seconds()
    print(f"{len(units)} units recorded: {1000 * mean:.1f} ms a query, unit by unit {min(factors):.2f} to", end=" ")
    print(f"{max(factors):.2f} times that.")
    print(f"The writer takes {1e6 * write:.0f} microseconds an output: {1 / write:,.0f} a second at most.\n")
    episodes = vqav2_sized()
    for query in [args.seconds] if args.seconds else [mean, 0.15]:
        print(f"{QUERIES:,} queries of {1000 * query:.3g} ms, {args.start:g} s to start, ", end="")
        print(f"{args.losses:g} losses a replica and hour; the writer is full at {query / write:,.0f} replicas\n")
        print(
            "| replicas | time, s | efficiency | tail, s | units | lost | writer busy |\n|--:|--:|--:|--:|--:|--:|--:|"
        )
        for n in REPLICAS:
            f = simulate(episodes, n, Scene(query, args.start, write, args.losses), factors)
            print(
                f"| {n} | {f.seconds:,.0f} | {100 * f.efficiency:.0f} % | {f.tail:.1f} | {f.units:,} | {f.lost} | "
                f"{100 * f.writer_busy:.0f} % |",
                flush=True,
            )
        print()


if __name__ == "__main__":
    main()
