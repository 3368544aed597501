"""Who answers a command's queries: this process, the ranks of torchrun, or replicas on Ray. One interface for all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from flamingo_eval.backends.choice import ModelChoice
from flamingo_eval.config.specs import ModelIdentity
from flamingo_eval.distributed.pool import Crew
from flamingo_eval.errors import UsageError
from flamingo_eval.runs.backend import Backend, identity_of, load_backend
from flamingo_eval.runs.plan import PlannedRun

if TYPE_CHECKING:
    from flamingo_eval.distributed.environment import World
    from flamingo_eval.distributed.replica import Worker
    from flamingo_eval.prompting.rices import Encoder


@dataclass(frozen=True, slots=True)
class Team:
    """Who answers, as the command line says it: the model, its device, and over how many processes."""

    model: str | ModelChoice
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
    """A team that has loaded its model. `state` gives a word for the progress bar.

    `crew`: the replicas, where there are several.
    """

    backend: Backend
    title: str
    state: Callable[[], str] = str
    crew: Crew | None = None


def identity_before(team: Team) -> ModelIdentity | None:
    """The identity of the model before it is loaded; None where other processes decide the device (Ray, ranks)."""
    from flamingo_eval.distributed.environment import world

    if team.ray is not None or world() is not None:
        return None
    return identity_of(team.model, team.device, team.dtype)


@contextmanager
def answering(
    team: Team, runs: Sequence[PlannedRun], say: Callable[[str], None] = lambda _: None
) -> Iterator[AtWork | None]:
    """Load the model wherever it will answer. None: this process has answered for rank 0 and is done.

    `say` is told what takes long.
    """
    if team.ray is not None:
        from flamingo_eval.distributed.ray_actors import ray_replicas

        with ray_replicas(team, say) as (replicas, identity):
            crew = Crew(replicas)
            backend = Backend(identity, crew, lambda: _own_encoder(team))
            yield AtWork(backend, _title(identity, len(replicas)), _state(crew), crew)
        return
    from flamingo_eval.distributed.environment import world

    here = world()
    if here is not None:
        with _among_ranks(team, runs, here) as at_work:
            yield at_work
        return
    if team.tensor_parallel > 1:
        raise UsageError(
            f"--tensor-parallel {team.tensor_parallel} shares a model among ranks.",
            fix=f"Start it with `torchrun --nproc-per-node {team.tensor_parallel} -m flamingo_eval run ...`.",
        )
    backend = load_backend(team.model, team.device, team.dtype, team.batch_size, team.workers)
    with closing(backend):
        yield AtWork(backend, _title(backend.identity, 1))


@contextmanager
def _among_ranks(team: Team, runs: Sequence[PlannedRun], here: World) -> Iterator[AtWork | None]:
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
    if any(run.ranked_by_model for run in runs):
        raise UsageError("RICES needs the model to draw shots, which ranks cannot share.", fix="Use --ray local.")
    require_groups(here, size)
    use_own_gpu(here)
    store = connect(here)
    mesh = group_mesh(here, size, _device_type(team)) if size > 1 else None
    worker = Worker(team.model, team.device, team.dtype, team.batch_size, team.workers, mesh)
    if size > 1:
        _say_what_is_held(here, worker, size)
    identity = worker.identity()
    with closing(worker.backend):
        if here.rank:
            serve(here, store, worker, runs, size)
            yield None
        else:
            own = OwnReplica(worker, connect(here, first=False), followers(here, size))
            others = [RankReplica(rank, connect(here, first=False)) for rank in range(size, here.size, size)]
            crew = Crew([own, *others])
            backend = Backend(identity, crew, worker.backend.encoder)
            yield AtWork(backend, _title(identity, len(crew.replicas), size), _state(crew), crew)
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

    from flamingo_eval.engine import Engine as LocalEngine
    from flamingo_eval.models import read_shape
    from flamingo_eval.models.tensor_parallel import bytes_a_rank, bytes_held

    engine = cast(LocalEngine, worker.backend.engine)
    config, _ = read_shape(engine.model.folder)
    expected = bytes_a_rank(config, size, engine.model.dtype.itemsize)
    held = bytes_held(engine.model.flamingo)
    line = f"rank {here.rank} of {here.size}: {held / 1e6:,.1f} MB of weights, its share is {expected / 1e6:,.1f} MB"
    print(line, file=sys.stderr, flush=True)


def _title(identity: ModelIdentity, replicas: int, ranks: int = 1) -> str:
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
    encoder = load_backend(team.model, team.device, team.dtype, team.batch_size, team.workers).encoder
    if encoder is None:
        raise UsageError(f"{team.model} gives no features to choose demonstrations by.")
    return encoder()
