"""Replicas as Ray actors: Ray places them, restarts them and notices when they die (extra `ray`).

Weights and feature caches are read by each actor from storage that all nodes share; a unit carries only examples.
Ray's usage statistics and dashboard are off.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from flamingo_eval.config.specs import ModelIdentity, RunSpec
from flamingo_eval.distributed.pool import Message, ReplicaLostError
from flamingo_eval.distributed.replica import Replica
from flamingo_eval.distributed.spec import LOCAL, Deployment
from flamingo_eval.errors import FlamingoEvalError, MissingDependency, RunError, UsageError
from flamingo_eval.records import Episode, Split

AUTO = "auto"
ADDRESSES = "Give the HOST:PORT that `ray start --head` printed, `auto` on a node of the cluster, or `local`."
LISTENER_SECONDS = 5.0
SAY_EVERY = 20.0  # seconds between progress lines
ASK_EVERY = 0.5  # seconds between checks whether an actor is up
STORE_BYTES = 200 * 2**20  # units are small; Ray's own default is a third of the memory


class RayHandle:
    """Handle of one actor. Ray restarts it when its process or node is lost, on another node if necessary."""

    def __init__(self, ray: ModuleType, actor: Any) -> None:
        self.ray, self.actor = ray, actor
        self.expected: ModelIdentity | None = None

    def identity(self, stop: threading.Event) -> ModelIdentity | None:
        """Identity of the loaded model, once the actor is up; None if `stop` was set first. Raises ReplicaLostError."""
        request = self.actor.identity.remote()
        while not stop.is_set():
            if not self.ray.wait([request], timeout=ASK_EVERY)[0]:
                continue
            try:
                identity: ModelIdentity = self._got(request)
                return identity
            except ReplicaLostError as error:
                # Ray reports at once that an actor is restarting; that is not a failed start
                if not isinstance(error.__cause__, self.ray.exceptions.ActorUnavailableError):
                    raise
            stop.wait(ASK_EVERY)
            request = self.actor.identity.remote()
        return None

    def ready(self, stop: threading.Event) -> bool:
        """Wait until the actor has loaded its model; an actor that joins late works from then on."""
        identity = self.identity(stop)
        if identity is not None and identity != self.expected:
            raise RunError(
                f"a replica loaded {identity}, the first one {self.expected}.",
                fix="Use the same checkpoint and kind of device on all nodes: pass --device and --dtype.",
            )
        return identity is not None

    def answers(self, episodes: Sequence[Episode], spec: RunSpec, split: Split) -> Iterator[Message]:
        """Yield outputs as the actor streams them."""
        stream = self.actor.answers.options(num_returns="streaming").remote(episodes, spec, split)
        for ref in stream:
            yield self._got(ref)

    def node(self) -> str:
        """Ray's id of the actor's node, once the actor is up. Raises ReplicaLostError."""
        context = self.ray.get_runtime_context
        node_id: str = self._got(self.actor.__ray_call__.remote(lambda _: context().get_node_id()))
        return node_id

    def _got(self, ref: Any) -> Any:
        errors = self.ray.exceptions
        try:
            return self.ray.get(ref)
        except errors.RayTaskError as error:
            if isinstance(error.cause, FlamingoEvalError):
                raise error.cause from None
            raise
        except errors.ActorUnavailableError as error:  # Ray's own text only says that a socket was closed
            raise ReplicaLostError("its process or machine is gone: killed, crashed or out of memory") from error
        except (
            errors.RayActorError, errors.WorkerCrashedError, errors.ObjectLostError, errors.OutOfMemoryError
        ) as error:  # fmt: skip
            raise ReplicaLostError(" ".join(str(error).split())[:300]) from error


@contextmanager
def ray_replicas(
    deployment: Deployment, say: Callable[[str], None] = lambda _: None
) -> Iterator[tuple[list[RayHandle], ModelIdentity]]:
    """Connect to Ray at `deployment.ray` (`local`: start it here) and start replicas; they end with the block.

    `deployment.replicas` is `auto` (one per GPU, without GPUs one per node) or a number. It may be more than fits now:
    the others start when nodes join. `say` gets progress lines. Raises UsageError, MissingDependency and RunError.
    """
    if deployment.replicas != "auto" and (not deployment.replicas.isdigit() or int(deployment.replicas) < 1):
        raise UsageError(f"--replicas {deployment.replicas}: give `auto` or a number from 1.")
    ray = _ray()
    _connect(ray, str(deployment.ray), 1 if deployment.replicas == "auto" else int(deployment.replicas), say)
    try:
        gpus_each = _gpus_each(ray, deployment)
        n = _replicas(ray, deployment, gpus_each)
        kind = ray.remote(Replica).options(num_cpus=1, num_gpus=gpus_each, max_restarts=-1, max_task_retries=0)
        arguments = deployment.model, deployment.device, deployment.dtype, deployment.batch_size, deployment.workers
        actors = [kind.remote(*arguments) for _ in range(n)]
        handles = [RayHandle(ray, actor) for actor in actors]
        identity = _first_identity(ray, actors, gpus_each, say)
        for handle in handles:
            handle.expected = identity
        yield handles, identity
    finally:
        ray.shutdown()


def gpus_of_replicas(deployment: Deployment) -> int:
    """Number of GPUs that each replica will have on the cluster; nothing is started there."""
    ray = _ray()
    _connect(ray, str(deployment.ray), 1, lambda _: None)
    try:
        return _gpus_each(ray, deployment)
    finally:
        ray.shutdown()


def _ray() -> ModuleType:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # a CPU replica sees the machine's own devices
    os.environ.setdefault("RAY_NUM_REDIS_GET_RETRIES", "1")  # of 40 s each; Ray's own 20 are a quarter of an hour
    os.environ.setdefault(
        "RAY_DEDUP_LOGS_SKIP_REGEX", "."
    )  # otherwise Ray prints each lost actor to standard output, between the JSON
    os.environ.setdefault("RAY_worker_niceness", "0")  # a replica does the main work, so it keeps normal priority
    try:
        import ray
        import ray.exceptions
    except ImportError as error:
        raise MissingDependency("--ray needs Ray.", fix="pip install 'flamingo-eval[ray]'") from error
    module: ModuleType = ray
    return module


def _connect(ray: ModuleType, address: str, replicas: int, say: Callable[[str], None]) -> None:
    """Start Ray here, or reach the cluster at the address. Raises RunError, UsageError."""
    if address == LOCAL:
        say("starting Ray on this machine")
        cluster = {
            "num_cpus": max(os.cpu_count() or 1, replicas),
            "object_store_memory": STORE_BYTES,
            "include_dashboard": False,
        }
    else:
        say(f"connecting to Ray at {address}")
        _require_listener(address)
        cluster = {"ignore_reinit_error": True}
    try:
        ray.init(address=address, log_to_driver=False, logging_level="error", **cluster)
    except (ConnectionError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
        raise RunError(f"--ray {address}: cannot connect to a cluster: {error}", fix=ADDRESSES) from error


def _require_listener(address: str) -> None:
    """Raise at once if nothing listens at the address; Ray itself takes minutes to report that."""
    if address == AUTO:
        return
    host, _, port = address.rpartition(":")
    if "://" in address or not host or not port.isdigit():
        raise UsageError(f"--ray {address}: invalid address, expected HOST:PORT.", fix=ADDRESSES)
    try:
        socket.create_connection((host.strip("[]"), int(port)), LISTENER_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise RunError(f"--ray {address}: no answer: {error}.", fix=ADDRESSES) from error


def _gpus_each(ray: ModuleType, deployment: Deployment) -> int:
    """Number of GPUs per replica. Raises UsageError if no replica could get them."""
    n_gpus = int(ray.cluster_resources().get("GPU", 0))
    if deployment.gpus_per_replica is None:
        return min(n_gpus, 1) if deployment.device != "cpu" else 0
    if deployment.gpus_per_replica and deployment.device == "cpu":
        raise UsageError(
            f"--gpus-per-replica {deployment.gpus_per_replica}: --device cpu uses none.", fix="Leave one out."
        )
    if deployment.ray == LOCAL and deployment.gpus_per_replica > n_gpus:
        raise UsageError(
            f"--gpus-per-replica {deployment.gpus_per_replica}: Ray finds {n_gpus} GPUs on this machine.",
            fix="Leave it out to run on the CPU.",
        )
    return deployment.gpus_per_replica


def _replicas(ray: ModuleType, deployment: Deployment, gpus_each: int) -> int:
    if deployment.replicas != "auto":
        return int(deployment.replicas)
    if gpus_each:
        return max(1, int(ray.cluster_resources().get("GPU", 0)) // gpus_each)
    return sum(1 for node in ray.nodes() if node["Alive"])


def _first_identity(
    ray: ModuleType, actors: Sequence[Any], gpus_each: int, say: Callable[[str], None]
) -> ModelIdentity:
    """Identity of the model in the first actor that is up; the others must match it."""
    requests = [actor.identity.remote() for actor in actors]
    while not (finished := ray.wait(requests, timeout=SAY_EVERY)[0]):
        say(f"no replica is up yet: {_wanted(ray, gpus_each)}")
    try:
        identity: ModelIdentity = ray.get(finished[0])
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, FlamingoEvalError):
            raise error.cause from None
        raise
    except ray.exceptions.RayActorError as error:
        raise RunError(f"a replica cannot load the model: {' '.join(str(error).split())[-600:]}") from error
    return identity


def _wanted(ray: ModuleType, gpus_each: int) -> str:
    """The resources a replica is waiting for, from the cluster's nodes."""
    needs = {"CPU": 1.0} | ({"GPU": float(gpus_each)} if gpus_each else {})
    words = " and ".join(f"{n:g} {name}{'s' if n > 1 else ''}" for name, n in needs.items())
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if not any(all(node.get(name, 0) >= n for name, n in needs.items()) for node in nodes):
        return f"none of the {len(nodes)} nodes has {words}; waiting for one that has"
    free = ray.available_resources()
    if any(free.get(name, 0) < n for name, n in needs.items()):
        return f"a replica needs {words}, and all are in use; waiting until they are free"
    return "loading the model"
