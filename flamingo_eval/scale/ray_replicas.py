"""Replicas as Ray actors: Ray places them, starts them again and notices that they died (extra `ray`).

Weights and feature caches are read by each actor from storage that all nodes share; a unit carries only examples.
Nothing is sent to anybody: usage statistics and the dashboard are off.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from flamingo_eval.errors import FlamingoEvalError, MissingDependency, RunError, UsageError
from flamingo_eval.records import Episode, Split
from flamingo_eval.scale.crew import Identity, ReplicaLostError, Sent
from flamingo_eval.scale.worker import Worker
from flamingo_eval.specs import RunSpec

LOCAL = "local"
ASK_EVERY = 0.5  # seconds between two looks at whether an actor has come up
STORE_BYTES = 200 * 2**20  # units are small; Ray's own default is a third of the memory


class RayReplica:
    """One actor. It is started anew by Ray whenever its process or node is lost, elsewhere if need be."""

    def __init__(self, ray: ModuleType, actor: Any) -> None:
        self.ray, self.actor = ray, actor
        self.expected: Identity | None = None

    def identity(self, stop: threading.Event) -> Identity | None:
        """What it loaded, once it is up; None if `stop` was set before. Raises ReplicaLostError."""
        asked = self.actor.identity.remote()
        while not stop.is_set():
            if not self.ray.wait([asked], timeout=ASK_EVERY)[0]:
                continue
            try:
                found: Identity = self._got(asked)
                return found
            except ReplicaLostError as error:
                # Ray says at once that an actor is being restarted; that is no failed start
                if not isinstance(error.__cause__, self.ray.exceptions.ActorUnavailableError):
                    raise
            stop.wait(ASK_EVERY)
            asked = self.actor.identity.remote()
        return None

    def ready(self, stop: threading.Event) -> bool:
        """Wait until the actor has loaded its model: one that joins late works from then on."""
        found = self.identity(stop)
        if found is not None and found != self.expected:
            raise RunError(
                f"a replica has loaded {found}, the first one {self.expected}.",
                fix="All nodes need the same checkpoint and the same kind of device: give --device and --dtype.",
            )
        return found is not None

    def answers(self, episodes: Sequence[Episode], spec: RunSpec, split: Split) -> Iterator[Sent]:
        """Outputs as they are finished, streamed by the actor."""
        stream = self.actor.answers.options(num_returns="streaming").remote(episodes, spec, split)
        for ref in stream:
            yield self._got(ref)

    def _got(self, ref: Any) -> Any:
        errors = self.ray.exceptions
        try:
            return self.ray.get(ref)
        except errors.RayTaskError as error:
            if isinstance(error.cause, FlamingoEvalError):
                raise error.cause from None
            raise
        except (errors.RayActorError, errors.WorkerCrashedError, errors.ObjectLostError) as error:
            raise ReplicaLostError(" ".join(str(error).split())[:300]) from error


@contextmanager
def ray_replicas(
    address: str,
    replicas: str,
    gpus_per_replica: int | None,
    model: str | Path,
    device: str,
    dtype: str,
    batch_size: str,
    workers: int | None,
) -> Iterator[tuple[list[RayReplica], Identity]]:
    """Connect to Ray (`local`: start it here) and start replicas; they end with the block.

    `replicas` is `auto` (one a GPU, without GPUs one a node) or a number, which may be more than fits now: the others
    start when nodes join. `gpus_per_replica` None: 1 where the cluster has GPUs. Raises UsageError, MissingDependency
    and RunError.
    """
    if replicas != "auto" and (not replicas.isdigit() or int(replicas) < 1):
        raise UsageError(f"--replicas {replicas}: give `auto` or a number from 1.")
    ray = _ray()
    cpus = max(os.cpu_count() or 1, int(replicas) if replicas != "auto" else 1)
    try:
        if address == LOCAL:
            ray.init(
                address=LOCAL,
                num_cpus=cpus,
                object_store_memory=STORE_BYTES,
                include_dashboard=False,
                log_to_driver=False,
                logging_level="warning",
            )
        else:
            ray.init(address=address, log_to_driver=False, logging_level="warning", ignore_reinit_error=True)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise RunError(
            f"--ray {address}: no cluster can be reached there: {error}",
            fix="Give the address that `ray start --head` printed, `auto` on a node of the cluster, or `local`.",
        ) from error
    try:
        gpus = int(ray.cluster_resources().get("GPU", 0)) if device != "cpu" else 0
        each = min(gpus, 1) if gpus_per_replica is None else gpus_per_replica
        if replicas == "auto":
            nodes = sum(1 for node in ray.nodes() if node["Alive"])
            n = max(1, gpus // each if each else nodes)
        else:
            n = int(replicas)
        kind = ray.remote(Worker).options(num_cpus=1, num_gpus=each, max_restarts=-1, max_task_retries=0)
        actors = [kind.remote(str(model), device, dtype, batch_size, workers) for _ in range(n)]
        crew = [RayReplica(ray, actor) for actor in actors]
        identity = _first_identity(ray, actors)
        for replica in crew:
            replica.expected = identity
        yield crew, identity
    finally:
        ray.shutdown()


def _ray() -> ModuleType:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # a CPU replica sees the machine as it is
    try:
        import ray
        import ray.exceptions
    except ImportError as error:
        raise MissingDependency("--ray needs Ray.", fix="pip install 'flamingo-eval[ray]'") from error
    found: ModuleType = ray
    return found


def _first_identity(ray: ModuleType, actors: Sequence[Any]) -> Identity:
    """What the first actor that is up has loaded; the others are held to it."""
    asked = [actor.identity.remote() for actor in actors]
    (first, *_), _ = ray.wait(asked)
    try:
        found: Identity = ray.get(first)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, FlamingoEvalError):
            raise error.cause from None
        raise
    except ray.exceptions.RayActorError as error:
        raise RunError(f"a replica cannot load the model: {' '.join(str(error).split())[-600:]}") from error
    return found
