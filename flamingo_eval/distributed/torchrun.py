"""Work units under torchrun or srun, without Ray: rank 0 hands them out and writes, every rank answers.

Ranks read the same plan, so a unit travels as query ids and comes back as lines of outputs.jsonl, through torch's own
key-value store. When a rank dies the launcher stops the others; `--max-restarts`, or the same command, resumes from
the run folder.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

import torch
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from flamingo_eval.config.specs import RunSpec
from flamingo_eval.distributed.environment import RankEnvironment
from flamingo_eval.distributed.pool import Message
from flamingo_eval.distributed.replica import Replica
from flamingo_eval.errors import UsageError
from flamingo_eval.prompting.episodes import episodes_by_id
from flamingo_eval.records import Episode, Split
from flamingo_eval.runs.folder import output_line, parse_output
from flamingo_eval.runs.plan import PlannedRun

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

ANSWER, NOTHING = "answer", "nothing"  # what rank 0 wants of the others
PATIENCE = timedelta(days=7)  # a rank waits for its next unit while others load, score or write


def use_own_gpu(rank_env: RankEnvironment) -> None:
    """Use the GPU with the number of this local rank."""
    if torch.cuda.is_available():
        torch.cuda.set_device(rank_env.local_rank % torch.cuda.device_count())


def connect(rank_env: RankEnvironment, first: bool = True) -> TCPStore:
    """A client of the ranks' store; under torchrun its agent holds the store, otherwise rank 0's `first` one does."""
    agent_has_store = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True" or not first
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    return TCPStore(
        address, port, is_master=rank_env.rank == 0 and not agent_has_store, timeout=PATIENCE, wait_for_workers=False
    )  # fmt: skip


def model_is_needed(rank_env: RankEnvironment, store: TCPStore) -> bool:
    """Rank 0: tells the others that it is. Other ranks: wait until rank 0 says whether it is."""
    begin = f"{_prefix()}/begin"
    if rank_env.rank == 0:
        store.set(begin, ANSWER)
        return True
    if store.get(begin).decode() == ANSWER:
        return True
    store.set(f"{_prefix()}/{rank_env.rank}/gone", "1")
    return False


def dismiss(rank_env: RankEnvironment) -> None:
    """Rank 0: end the other ranks, which wait for its word, without a model."""
    store = connect(rank_env)
    store.set(f"{_prefix()}/begin", NOTHING)
    for rank in range(1, rank_env.size):
        store.get(f"{_prefix()}/{rank}/gone")


def require_groups(rank_env: RankEnvironment, size: int) -> None:
    """Raise UsageError unless the ranks can be divided into groups that share a model."""
    if rank_env.size % size:
        raise UsageError(
            f"--tensor-parallel {size}: {rank_env.size} ranks cannot be divided into groups of {size}.",
            fix=f"Start a multiple of {size} ranks.",
        )


def group_mesh(rank_env: RankEnvironment, size: int, device: str) -> DeviceMesh:
    """The ranks that share a model with this one: `size` neighbours; NCCL between GPUs, gloo otherwise."""
    import torch.distributed as dist
    from torch.distributed.device_mesh import init_device_mesh

    store = dist.PrefixStore(f"{_prefix()}/groups", connect(rank_env, first=False))  # type: ignore[attr-defined]
    backend = "nccl" if device == "cuda" else "gloo"
    dist.init_process_group(backend, store=store, rank=rank_env.rank, world_size=rank_env.size, timeout=PATIENCE)
    return init_device_mesh(device, (rank_env.size // size, size), mesh_dim_names=("replica", "part"))["part"]


def followers(rank_env: RankEnvironment, size: int) -> range:
    """The ranks that share the model of this one, if it is the first of its group; empty otherwise."""
    return range(rank_env.rank + 1, rank_env.rank + size) if rank_env.rank % size == 0 else range(0)


def _prefix() -> str:
    # after a restart by torchrun the old keys are still in the agent's store
    return f"flamingo-eval/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}"


def _key(spec: RunSpec) -> list[str | int]:
    return [spec.task_label, spec.demos.shots, spec.demos.seed]


def _unit_message(episodes: Sequence[Episode], spec: RunSpec) -> str:
    return json.dumps({"run": _key(spec), "ids": [e.query.id for e in episodes]})


class LocalHandle:
    """The model in this process, or its part of a shared model; `followers` then get the same units."""

    def __init__(self, replica: Replica, store: TCPStore | None = None, followers: Sequence[int] = ()) -> None:
        """`store`: a client of its own, as in RankHandle."""
        self.replica, self.store, self.followers, self.sent = replica, store, followers, 0

    def ready(self, stop: threading.Event) -> bool:
        """Return at once: the model in this process is already loaded."""
        return not stop.is_set()

    def answers(self, episodes: Sequence[Episode], spec: RunSpec, split: Split) -> Iterator[Message]:
        """Yield outputs as they are finished."""
        self._tell(_unit_message(episodes, spec))
        return self.replica.answers(episodes, spec, split)

    def end(self) -> None:
        """Tell the followers to stop, and wait until they have."""
        self._tell("null")
        for rank in self.followers:
            assert self.store is not None
            self.store.get(f"{_prefix()}/{rank}/gone")

    def _tell(self, message: str) -> None:
        for rank in self.followers:
            assert self.store is not None
            self.store.set(f"{_prefix()}/{rank}/{self.sent}", message)
        self.sent += 1


class RankHandle:
    """Rank 0's handle of the model in another rank."""

    def __init__(self, rank: int, store: TCPStore) -> None:
        """`store`: a client of its own, because a waiting client blocks other threads."""
        self.rank, self.sent, self.store = rank, 0, store

    def ready(self, stop: threading.Event) -> bool:
        """Return at once: the rank finds its first unit in the store when it is ready."""
        return not stop.is_set()

    def answers(self, episodes: Sequence[Episode], spec: RunSpec, split: Split) -> Iterator[Message]:
        """Yield outputs as the rank sends them."""
        unit = f"{_prefix()}/{self.rank}/{self.sent}"
        self.sent += 1
        self.store.set(unit, _unit_message(episodes, spec))
        part = 0
        while True:
            name = f"{unit}/{part}"
            message = json.loads(self.store.get(name))
            self.store.delete_key(name)
            part += 1
            if message is None:
                return
            yield Message([parse_output(line) for line in message["outputs"]], message["asked"], message["hits"])

    def end(self) -> None:
        """Tell the rank to stop."""
        self.store.set(f"{_prefix()}/{self.rank}/{self.sent}", "null")

    def wait_until_gone(self) -> None:
        """Wait until the rank has read its last message; the store may end with this process."""
        self.store.get(f"{_prefix()}/{self.rank}/gone")


def serve(
    rank_env: RankEnvironment, store: TCPStore, replica: Replica, runs: Sequence[PlannedRun], size: int = 1
) -> None:
    """Loop of the ranks other than 0: answer units until rank 0 has none left.

    Where `size` ranks share a model, the first of each group passes its units on and sends the outputs.
    """
    follower_ranks, is_leader = followers(rank_env, size), rank_env.rank % size == 0
    model = replica.identity()
    of_run = {json.dumps(run.key): run for run in runs}
    current = ""  # the run that is being answered
    episodes: Mapping[str, Episode] = {}
    n = 0
    while True:
        unit = f"{_prefix()}/{rank_env.rank}/{n}"
        message = store.get(unit).decode()
        for rank in follower_ranks:
            store.set(f"{_prefix()}/{rank}/{n}", message)
        request = json.loads(message)
        n += 1
        if request is None:
            for rank in follower_ranks:
                store.get(f"{_prefix()}/{rank}/gone")
            store.set(f"{_prefix()}/{rank_env.rank}/gone", "1")
            return
        key = json.dumps(request["run"])
        run = of_run[key]
        if key != current:
            current, episodes = key, episodes_by_id(run, run.queries, run.support)
        part = 0
        for reply in replica.answers([episodes[id] for id in request["ids"]], run.spec(model), run.data.queries):
            if is_leader:
                lines = [output_line(o) for o in reply.outputs]
                store.set(f"{unit}/{part}", json.dumps({"outputs": lines, "asked": reply.asked, "hits": reply.hits}))
                part += 1
        if is_leader:
            store.set(f"{unit}/{part}", "null")
