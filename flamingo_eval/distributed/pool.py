"""A pool of replicas that pull work units and stream answers to the one process that writes the run folder.

Where replicas run and how they restart is up to ray_actors.py and torchrun.py.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from flamingo_eval.config.specs import RunSpec
from flamingo_eval.distributed.work_units import MOST_QUERIES, Unit, after_loss, cut
from flamingo_eval.errors import RunError
from flamingo_eval.records import Episode, Output, Split

RETRIES = 3
FAILED_STARTS = 3  # consecutive failures before a replica is abandoned


@dataclass(frozen=True, slots=True)
class Message:
    """Outputs of a replica, with the look-ups (`asked`) and hits of its vision cache since it started."""

    outputs: Sequence[Output]
    asked: int = 0
    hits: int = 0


@dataclass(slots=True)
class ReplicaStatus:
    """State of a replica for the progress display. `asked` and `hits` count since its process last started."""

    state: Literal["loading", "working", "waiting", "given up"] = "loading"
    queries: int = 0
    units: int = 0
    lost: int = 0
    asked: int = 0
    hits: int = 0


class ReplicaLostError(Exception):
    """A replica's process or machine was lost; the message gives the reason, if known."""


class ReplicaHandle(Protocol):
    """One copy of the model in its own process. Used by one thread only."""

    def ready(self, stop: threading.Event) -> bool:
        """Wait until the replica is ready; False if `stop` is set first. Raises ReplicaLostError if it dies."""
        ...

    def answers(self, episodes: Sequence[Episode], spec: RunSpec, split: Split) -> Iterator[Message]:
        """Yield outputs in small groups as they are finished. Raises ReplicaLostError."""
        ...


class _Work:
    """The units of one run: waiting, in flight and lost. Shared by the replicas' threads."""

    def __init__(self, units: Sequence[Unit], retries: int) -> None:
        self.retries = retries
        self.waiting = deque(units)
        self.in_flight = 0
        self.stop = threading.Event()
        self.changed = threading.Condition()
        self.results: queue.Queue[list[Output] | BaseException | None] = queue.Queue()  # None: a replica has stopped

    def take(self) -> Unit | None:
        """The next unit; None once all are done or the run was stopped."""
        with self.changed:
            while not self.waiting and self.in_flight and not self.stop.is_set():
                self.changed.wait()
            if self.stop.is_set() or not self.waiting:
                return None
            self.in_flight += 1
            return self.waiting.popleft()

    def settle(self, unfinished: Sequence[Unit] = ()) -> None:
        """Mark a unit as no longer in flight; `unfinished`, its remaining pieces, are queued last."""
        with self.changed:
            self.in_flight -= 1
            self.waiting.extend(unfinished)
            self.changed.notify_all()

    def give_up(self) -> None:
        """Stop the run: no replica takes another unit."""
        self.stop.set()
        with self.changed:
            self.changed.notify_all()


class ReplicaPool:
    """Answers the queries of a run with several replicas. Outputs come in no fixed order; each query has one."""

    def __init__(
        self, replicas: Sequence[ReplicaHandle], retries: int = RETRIES, max_queries: int = MOST_QUERIES
    ) -> None:
        """`retries`: replicas that may die with a query alone before it fails; `max_queries`: the largest unit."""
        self.replicas, self.retries, self.max_queries = replicas, retries, max_queries
        self._counts = dict.fromkeys(("units", "units_done", "units_lost", "queries_given_up"), 0)
        self.statuses = [ReplicaStatus() for _ in replicas]

    @property
    def stats(self) -> Mapping[str, Any]:
        """Counts since the pool was made. `units` grows when a lost unit is split into pieces."""
        return {"replicas": len(self.replicas), **self._counts}

    def outputs(self, episodes: Collection[Episode], spec: RunSpec, split: Split) -> Iterator[Output]:
        """One Output per episode. Raises RunError once no replica can be started; errors of a replica are passed on."""
        units = cut(episodes, len(self.replicas), self.max_queries)
        self._counts["units"] += len(units)
        work = _Work(units, self.retries)
        part = Split(split.name, (), (), split.candidates, split.labelled)  # each unit carries its own examples
        threads = [
            threading.Thread(target=self._pull, args=(replica, status, work, spec, part), daemon=True)
            for replica, status in zip(self.replicas, self.statuses, strict=True)
        ]
        for thread in threads:
            thread.start()
        unanswered, running = len(episodes), len(threads)
        try:
            while unanswered:
                result = work.results.get()
                if isinstance(result, BaseException):
                    raise result
                if result is None:
                    running -= 1
                    if not running:
                        raise RunError(
                            f"{spec.task.name}: no replica can be started; {unanswered} queries are unanswered.",
                            fix="Finished queries are saved. Fix the machines, then run the same command to resume.",
                        )
                    continue
                unanswered -= len(result)
                yield from result
        finally:
            work.give_up()
        for thread in threads:  # so that the last unit is counted, and no two threads use a replica in the next run
            thread.join()

    def _pull(self, replica: ReplicaHandle, status: ReplicaStatus, work: _Work, spec: RunSpec, split: Split) -> None:
        failed_starts = 0
        try:
            while failed_starts < FAILED_STARTS:
                try:
                    if not replica.ready(work.stop):
                        return
                except ReplicaLostError:
                    failed_starts += 1
                    continue
                failed_starts = 0
                status.state = "waiting"
                unit = work.take()
                if unit is None:
                    return
                status.state = "working"
                self._answer(replica, status, unit, work, spec, split)
            status.state = "given up"
            work.results.put(None)
        except BaseException as error:  # raised again when the outputs are read
            work.results.put(error)

    def _answer(
        self, replica: ReplicaHandle, status: ReplicaStatus, unit: Unit, work: _Work, spec: RunSpec, split: Split
    ) -> None:
        unanswered = {e.query.id: e for e in unit.episodes}
        unfinished: list[Unit] = []
        try:
            for message in replica.answers(unit.episodes, spec, split):
                outputs = [o for o in message.outputs if unanswered.pop(o.id, None) is not None]
                status.asked, status.hits = message.asked, message.hits
                if outputs:
                    status.queries += len(outputs)
                    work.results.put(outputs)
            status.units += 1
            self._count("units_done")
        except ReplicaLostError as error:
            status.state, status.lost = "loading", status.lost + 1
            self._count("units_lost")
            unfinished = after_loss(unit, list(unanswered.values())) if unanswered else []
            if len(unfinished) == 1 and unfinished[0].losses >= work.retries:
                (episode,) = unfinished.pop().episodes
                self._count("queries_given_up")
                work.results.put([_given_up(episode, work.retries, str(error))])
            self._count("units", len(unfinished))
        work.settle(unfinished)

    def _count(self, name: str, by: int = 1) -> None:
        with _COUNTING:
            self._counts[name] += by


_COUNTING = threading.Lock()


def _given_up(episode: Episode, times: int, reason: str) -> Output:
    what = f"{episode.query.id}: {times} replicas died while answering it alone; the last: {reason}"
    return Output(episode.query.id, tuple(s.id for s in episode.shots), 0, error=what)
