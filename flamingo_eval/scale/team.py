"""Who answers a command's queries: this process, the ranks of torchrun, or replicas on Ray. One interface for all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flamingo_eval.answering import Engine
from flamingo_eval.errors import UsageError
from flamingo_eval.plan import Job
from flamingo_eval.runner import OutputSource
from flamingo_eval.scale.crew import Crew, Identity

if TYPE_CHECKING:
    from flamingo_eval.features import Encoder


@dataclass(frozen=True, slots=True)
class Team:
    """Who answers, as the command line says it: the model, its device, and over how many processes."""

    model: str
    device: str = "auto"
    dtype: str = "auto"
    batch_size: str = "auto"
    workers: int | None = None
    ray: str | None = None
    replicas: str = "auto"
    gpus_per_replica: int | None = None


@dataclass(frozen=True, slots=True)
class AtWork:
    """A team that has loaded its model. `encoder` gives RICES its features, `state` a word for the progress bar."""

    identity: Identity
    engine: Engine | OutputSource
    encoder: Callable[[], Encoder]
    title: str
    state: Callable[[], str] = str


@contextmanager
def answering(team: Team, jobs: Sequence[Job]) -> Iterator[AtWork | None]:
    """Load the model wherever it will answer. None: this process has answered for rank 0 and is done."""
    if team.ray is not None:
        from flamingo_eval.scale.ray_replicas import ray_replicas

        with ray_replicas(
            team.ray, team.replicas, team.gpus_per_replica, team.model,
            team.device, team.dtype, team.batch_size, team.workers,
        ) as (replicas, identity):  # fmt: skip
            crew = Crew(replicas)
            yield AtWork(identity, crew, lambda: _own_encoder(team), _title(identity, len(replicas)), _state(crew))
        return
    from flamingo_eval.scale.ranks import OwnReplica, RankReplica, connect, serve, use_own_gpu
    from flamingo_eval.scale.worker import Worker
    from flamingo_eval.scale.world import world

    here = world()
    if here is not None:
        if any(job.episodes is None for job in jobs):
            raise UsageError("RICES needs the model to draw shots, which ranks cannot share.", fix="Use --ray local.")
        use_own_gpu(here)
    worker = Worker(team.model, team.device, team.dtype, team.batch_size, team.workers)
    identity = worker.identity()
    with worker.engine:
        if here is None:
            yield AtWork(identity, worker.engine, worker.encoder, _title(identity, 1))
            return
        store = connect(here)
        if here.rank:
            serve(here, store, worker, jobs)
            yield None
            return
        others = [RankReplica(rank, connect(here, first=False)) for rank in range(1, here.size)]
        crew = Crew([OwnReplica(worker), *others])
        yield AtWork(identity, crew, worker.encoder, _title(identity, here.size), _state(crew))
        for other in others:
            other.end()
        for other in others:
            other.wait_until_gone()


def _title(identity: Identity, replicas: int) -> str:
    copies = f", {replicas} replicas" if replicas > 1 else ""
    return f"{identity.name} on {identity.device}, {identity.dtype}{copies}"


def _state(crew: Crew) -> Callable[[], str]:
    def state() -> str:
        counts = crew.stats
        lost = f", {counts['units_lost']} lost" if counts["units_lost"] else ""
        return f"[{counts['replicas']} replicas, units {counts['units_done']}/{counts['units']}{lost}]"

    return state


def _own_encoder(team: Team) -> Encoder:
    from flamingo_eval.scale.worker import Worker

    return Worker(team.model, team.device, team.dtype, team.batch_size, team.workers).encoder()
