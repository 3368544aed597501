"""Who answers a command's queries: this process, the ranks of torchrun, or replicas on Ray. One interface for all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flamingo_eval.distributed.pool import Crew, Identity
from flamingo_eval.errors import UsageError
from flamingo_eval.runs.answer import Engine
from flamingo_eval.runs.plan import Job
from flamingo_eval.runs.runner import OutputSource

if TYPE_CHECKING:
    from flamingo_eval.distributed.environment import World
    from flamingo_eval.distributed.replica import Worker
    from flamingo_eval.prompting.rices import Encoder


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
    tensor_parallel: int = 1  # ranks of torchrun that share one model


@dataclass(frozen=True, slots=True)
class AtWork:
    """A team that has loaded its model. `encoder` gives RICES its features, `state` a word for the progress bar.

    `crew`: the replicas, where there are several.
    """

    identity: Identity
    engine: Engine | OutputSource
    encoder: Callable[[], Encoder]
    title: str
    state: Callable[[], str] = str
    crew: Crew | None = None


@contextmanager
def answering(team: Team, jobs: Sequence[Job], say: Callable[[str], None] = lambda _: None) -> Iterator[AtWork | None]:
    """Load the model wherever it will answer. None: this process has answered for rank 0 and is done.

    `say` is told what takes long.
    """
    if team.ray is not None:
        from flamingo_eval.distributed.ray_actors import ray_replicas

        with ray_replicas(team, say) as (replicas, identity):
            crew = Crew(replicas)
            yield AtWork(
                identity, crew, lambda: _own_encoder(team), _title(identity, len(replicas)), _state(crew), crew
            )
        return
    from flamingo_eval.distributed.environment import world

    here = world()
    if here is not None:
        with _among_ranks(team, jobs, here) as at_work:
            yield at_work
        return
    if team.tensor_parallel > 1:
        raise UsageError(
            f"--tensor-parallel {team.tensor_parallel} shares a model among ranks.",
            fix=f"Start it with `torchrun --nproc-per-node {team.tensor_parallel} -m flamingo_eval run ...`.",
        )
    from flamingo_eval.distributed.replica import Worker

    worker = Worker(team.model, team.device, team.dtype, team.batch_size, team.workers)
    with closing(worker.engine):
        yield AtWork(worker.identity(), worker.engine, worker.encoder, _title(worker.identity(), 1))


@contextmanager
def _among_ranks(team: Team, jobs: Sequence[Job], here: World) -> Iterator[AtWork | None]:
    """torchrun or srun: rank 0 gets a crew, the others answer for it and get None."""
    from flamingo_eval.distributed.replica import Worker
    from flamingo_eval.distributed.torchrun import (
        OwnReplica,
        RankReplica,
        connect,
        followers,
        group_mesh,
        require_groups,
        serve,
        use_own_gpu,
    )  # fmt: skip

    size = team.tensor_parallel
    if any(job.episodes is None for job in jobs):
        raise UsageError("RICES needs the model to draw shots, which ranks cannot share.", fix="Use --ray local.")
    require_groups(here, size)
    use_own_gpu(here)
    store = connect(here)
    mesh = group_mesh(here, size, _device_type(team)) if size > 1 else None
    worker = Worker(team.model, team.device, team.dtype, team.batch_size, team.workers, mesh)
    if size > 1:
        _say_what_is_held(here, worker, size)
    identity = worker.identity()
    with closing(worker.engine):
        if here.rank:
            serve(here, store, worker, jobs, size)
            yield None
        else:
            own = OwnReplica(worker, connect(here, first=False), followers(here, size))
            others = [RankReplica(rank, connect(here, first=False)) for rank in range(size, here.size, size)]
            crew = Crew([own, *others])
            yield AtWork(identity, crew, worker.encoder, _title(identity, len(crew.replicas), size), _state(crew), crew)
            own.end()
            for other in others:
                other.end()
            for other in others:
                other.wait_until_gone()
    if size > 1:
        import torch.distributed as dist

        dist.destroy_process_group()


def _device_type(team: Team) -> str:
    from flamingo_eval.models.loaded import choose_device

    return choose_device(team.device).type


def _say_what_is_held(here: World, worker: Worker, size: int) -> None:
    """Each rank's weights beside what its share should be, on its own line."""
    import sys

    from flamingo_eval.models import read_shape
    from flamingo_eval.models.tensor_parallel import bytes_a_rank, bytes_held

    config, _ = read_shape(worker.model.folder)
    expected = bytes_a_rank(config, size, worker.model.dtype.itemsize)
    held = bytes_held(worker.model.flamingo)
    line = f"rank {here.rank} of {here.size}: {held / 1e6:,.1f} MB of weights, its share is {expected / 1e6:,.1f} MB"
    print(line, file=sys.stderr, flush=True)


def _title(identity: Identity, replicas: int, ranks: int = 1) -> str:
    shared = f", each shared by {ranks} ranks" if ranks > 1 else ""
    copies = f", {replicas} replica{'s' if replicas > 1 else ''}{shared}" if replicas > 1 or shared else ""
    return f"{identity.name} on {identity.device}, {identity.dtype}{copies}"


def _state(crew: Crew) -> Callable[[], str]:
    def state() -> str:
        counts = crew.stats
        lost = f", {counts['units_lost']} lost" if counts["units_lost"] else ""
        return f"[{counts['replicas']} replicas, units {counts['units_done']}/{counts['units']}{lost}]"

    return state


def _own_encoder(team: Team) -> Encoder:
    from flamingo_eval.distributed.replica import Worker

    return Worker(team.model, team.device, team.dtype, team.batch_size, team.workers).encoder()
