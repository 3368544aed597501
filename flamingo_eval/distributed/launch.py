"""Starts the model for a command: in this process, over torchrun's ranks, or as replicas on Ray; one interface."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

from flamingo_eval.config.specs import ModelIdentity
from flamingo_eval.distributed.environment import rank_environment
from flamingo_eval.distributed.pool import ReplicaPool
from flamingo_eval.distributed.spec import LOCAL, Deployment
from flamingo_eval.errors import FlamingoEvalError, UsageError
from flamingo_eval.runs.backend import Backend, identity_of, load_backend
from flamingo_eval.runs.plan import PlannedRun

if TYPE_CHECKING:
    from flamingo_eval.distributed.environment import RankEnvironment
    from flamingo_eval.distributed.replica import Replica
    from flamingo_eval.prompting.rices import Encoder

SERVER = "openai:"  # what the name of a model that a server runs begins with


@dataclass(frozen=True, slots=True)
class Service:
    """A deployment with its model loaded. `state` gives a few words for the progress bar.

    `pool`: the replicas, if there are several.
    """

    backend: Backend
    title: str
    state: Callable[[], str] = str
    pool: ReplicaPool | None = None


def identity_before(deployment: Deployment) -> ModelIdentity | None:
    """The model's identity before it is loaded, on the device where it will be; None if it cannot be known."""
    if deployment.ray is None:
        return identity_of(deployment.model, deployment.device, deployment.dtype)
    if str(deployment.model).startswith(SERVER):
        return None
    if deployment.ray == LOCAL:
        return identity_of(deployment.model, deployment.device, deployment.dtype)
    device = deployment.device
    if device == "auto":
        if deployment.gpus_per_replica == 0:
            return None  # replicas see the GPUs of their machines
        from flamingo_eval.distributed.ray_actors import gpus_of_replicas

        device = "cuda" if gpus_of_replicas(deployment) else "cpu"
    dtype = deployment.dtype
    if dtype == "auto":
        dtype = "bfloat16" if device == "cuda" else "float32"
    return replace(identity_of(deployment.model, "cpu", "float32"), device=device, dtype=dtype)


class Launch:
    """The start of a command's model: at most once, and only if a run needs it.

    Under torchrun or srun, rank 0 alone decides that: it looks finished runs up, and the other ranks wait for its word.
    """

    def __init__(self, deployment: Deployment, say: Callable[[str], None] = lambda _: None) -> None:
        self.deployment, self.say = deployment, say
        self.ranks = rank_environment() if deployment.ray is None else None
        self._started = False

    @property
    def serves_only(self) -> bool:
        """Whether this process is a rank that answers for rank 0, and has no runs of its own."""
        return self.ranks is not None and self.ranks.rank > 0

    def open(self, runs: Sequence[PlannedRun]) -> AbstractContextManager[Service | None]:
        """Load the model, see `answering`."""
        self._started = True
        return answering(self.deployment, runs, self.say)

    @contextmanager
    def deciding(self) -> Iterator[None]:
        """Around all runs of rank 0: ends the other ranks if the model was not needed, or if something was missing."""
        try:
            yield
        except FlamingoEvalError:
            self._dismiss()
            raise
        self._dismiss()

    def _dismiss(self) -> None:
        if self.ranks is not None and not self._started:
            from flamingo_eval.distributed.torchrun import dismiss

            dismiss(self.ranks)


@contextmanager
def answering(
    deployment: Deployment, runs: Sequence[PlannedRun], say: Callable[[str], None] = lambda _: None
) -> Iterator[Service | None]:
    """Load the model wherever it will answer. Yields None in ranks other than 0, once their work is done: they wait
    for rank 0, which may need no model.

    `say` gets progress lines about slow steps.
    """
    rank_env = rank_environment() if deployment.ray is None else None
    if str(deployment.model).startswith(SERVER) and (deployment.ray is not None or rank_env is not None):
        raise UsageError(
            f"{deployment.model}: only one process sends requests to servers, `concurrency` at a time.",
            fix="Leave --ray and torchrun out; several servers: openai:URL1,URL2.",
        )
    if deployment.ray is not None:
        from flamingo_eval.distributed.ray_actors import ray_replicas

        with ray_replicas(deployment, say) as (replicas, identity):
            pool = ReplicaPool(replicas)
            backend = Backend(identity, pool, lambda: _own_encoder(deployment))
            yield Service(backend, _title(identity, len(replicas)), _state(pool), pool)
        return
    if rank_env is not None:
        with _among_ranks(deployment, runs, rank_env) as service:
            yield service
        return
    if deployment.tensor_parallel > 1:
        raise UsageError(
            f"--tensor-parallel {deployment.tensor_parallel} shares a model among ranks.",
            fix=f"Start it with `torchrun --nproc-per-node {deployment.tensor_parallel} -m flamingo_eval run ...`.",
        )
    backend = load_backend(
        deployment.model, deployment.device, deployment.dtype, deployment.batch_size, deployment.workers
    )
    with closing(backend):
        yield Service(backend, _title(backend.identity, 1))


@contextmanager
def _among_ranks(
    deployment: Deployment, runs: Sequence[PlannedRun], rank_env: RankEnvironment
) -> Iterator[Service | None]:
    """Under torchrun or srun: rank 0 gets a pool; the other ranks serve it and get None."""
    from flamingo_eval.distributed.replica import Replica
    from flamingo_eval.distributed.torchrun import (
        LocalHandle,
        RankHandle,
        connect,
        followers,
        group_mesh,
        model_is_needed,
        require_groups,
        serve,
        use_own_gpu,
    )  # fmt: skip

    size = deployment.tensor_parallel
    if any(run.ranked_by_model for run in runs):
        raise UsageError("RICES needs the model to choose shots, which ranks cannot share.", fix="Use --ray local.")
    require_groups(rank_env, size)
    store = connect(rank_env)
    if not model_is_needed(rank_env, store):
        yield None
        return
    use_own_gpu(rank_env)
    mesh = group_mesh(rank_env, size, _device_type(deployment)) if size > 1 else None
    replica = Replica(
        deployment.model, deployment.device, deployment.dtype, deployment.batch_size, deployment.workers, mesh
    )
    if size > 1:
        _print_weights_size(rank_env, replica, size)
    identity = replica.identity()
    with closing(replica.backend):
        if rank_env.rank:
            serve(rank_env, store, replica, runs, size)
            yield None
        else:
            own = LocalHandle(replica, connect(rank_env, first=False), followers(rank_env, size))
            others = [RankHandle(rank, connect(rank_env, first=False)) for rank in range(size, rank_env.size, size)]
            pool = ReplicaPool([own, *others])
            backend = Backend(identity, pool, replica.backend.encoder)
            yield Service(backend, _title(identity, len(pool.replicas), size), _state(pool), pool)
            own.end()
            for other in others:
                other.end()
            for other in others:
                other.wait_until_gone()
    if size > 1:
        import torch.distributed as dist

        dist.destroy_process_group()


def _device_type(deployment: Deployment) -> str:
    from flamingo_eval.models.loaded import choose_device

    return choose_device(deployment.device).type


def _print_weights_size(rank_env: RankEnvironment, replica: Replica, size: int) -> None:
    """Print the size of this rank's weights and the expected size, on one line."""
    import sys

    from flamingo_eval.engine import Engine as LocalEngine
    from flamingo_eval.models import read_shape
    from flamingo_eval.models.tensor_parallel import bytes_a_rank, bytes_held

    engine = cast(LocalEngine, replica.backend.engine)
    config, _ = read_shape(engine.model.folder)
    expected = bytes_a_rank(config, size, engine.model.dtype.itemsize)
    n_bytes = bytes_held(engine.model.flamingo)
    line = f"rank {rank_env.rank} of {rank_env.size}: {n_bytes / 1e6:,.1f} MB of weights, "
    line += f"expected {expected / 1e6:,.1f} MB"
    print(line, file=sys.stderr, flush=True)


def _title(identity: ModelIdentity, replicas: int, ranks: int = 1) -> str:
    shared = f", each shared by {ranks} ranks" if ranks > 1 else ""
    copies = f", {replicas} replica{'s' if replicas > 1 else ''}{shared}" if replicas > 1 or shared else ""
    return f"{identity.name} on {identity.device}, {identity.dtype}{copies}"


def _state(pool: ReplicaPool) -> Callable[[], str]:
    def state() -> str:
        counts = pool.stats
        lost = f", {counts['units_lost']} lost" if counts["units_lost"] else ""
        return f"[{counts['replicas']} replicas, units {counts['units_done']}/{counts['units']}{lost}]"

    return state


def _own_encoder(deployment: Deployment) -> Encoder:
    encoder = load_backend(
        deployment.model, deployment.device, deployment.dtype, deployment.batch_size, deployment.workers
    ).encoder
    if encoder is None:
        raise UsageError(f"{deployment.model} has no encoder for choosing demonstrations.")
    return encoder()
