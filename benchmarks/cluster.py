"""Three nodes of a Ray cluster in one machine; in the middle of a run one is removed and another is added.

python -m benchmarks.cluster. Needs the extra `ray`.
Prints how many units were lost and repeated, and how many lines differ from one process.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.kill_loop import command, lines
from flamingo_eval.config.specs import RunSpec
from flamingo_eval.distributed.pool import Message, ReplicaPool
from flamingo_eval.distributed.ray_actors import RayHandle, ray_replicas
from flamingo_eval.distributed.replica import Replica
from flamingo_eval.distributed.spec import Deployment
from flamingo_eval.records import Episode, Split
from flamingo_eval.runs.plan import Choices, plan_runs
from flamingo_eval.runs.questions import load_questions
from flamingo_eval.runs.runner import Progress, run

STORE_BYTES = 100 * 2**20
SHOTS = 32  # long prompts: a new node needs seconds to load, and there should be work left
UNIT = 32  # queries: many units, so that some are lost and some are left for the new node


@dataclass(frozen=True, slots=True)
class Found:
    """The result of the run. `late`: number of queries answered on the added node."""

    queries: int
    different: int
    units: int
    lost: int
    late: int
    seconds: float


class Placed:
    """A replica that counts answers by node. `left`: queries of its unit without an answer."""

    def __init__(self, replica: RayHandle, by_node: Counter[str]) -> None:
        self.replica, self.by_node, self.node, self.left = replica, by_node, "", 0

    def ready(self, stop: threading.Event) -> bool:
        """Like the replica's; after this the node does not change until it is lost."""
        if not self.replica.ready(stop):
            return False
        self.node = self.replica.node()
        return True

    def answers(self, episodes: Sequence[Episode], spec: RunSpec, split: Split) -> Iterator[Message]:
        """Like the replica's."""
        self.left = len(episodes)
        for sent in self.replica.answers(episodes, spec, split):
            self.by_node[self.node] += len(sent.outputs)
            self.left -= len(sent.outputs)
            yield sent


@contextmanager
def three_nodes() -> Iterator[Any]:
    """A head without room for replicas, and two nodes with room for one each."""
    os.environ.setdefault("RAY_worker_niceness", "0")
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": STORE_BYTES}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        for _ in range(2):
            cluster.add_node(num_cpus=1, object_store_memory=STORE_BYTES)
        cluster.wait_for_nodes()
        yield cluster
    finally:
        cluster.shutdown()  # type: ignore[no-untyped-call]  # of ray


def change_nodes(out: Path, limit: int) -> Found:
    """Run with three replicas of which two fit; then a busy node is removed and another is added."""
    (planned,) = plan_runs(load_questions(["vqav2"], "flamingo")[0], Choices(shots=(SHOTS,), limit=limit))
    one = Replica("tiny", device="cpu")
    identity = one.identity()
    spec = planned.spec(identity)
    with closing(one.backend):
        run(spec, planned.data, one.backend.engine, out / "one", episodes=list(planned.episodes()))
    began = time.monotonic()
    by_node: Counter[str] = Counter()
    with (
        three_nodes() as cluster,
        ray_replicas(Deployment("tiny", "cpu", ray=cluster.address, replicas="3")) as (replicas, _),
    ):
        placed = [Placed(replica, by_node) for replica in replicas]
        pool = ReplicaPool(placed, max_queries=UNIT)
        added = ""

        def watch(progress: Progress) -> None:  # called in the main thread; Ray starts nodes only there
            nonlocal added
            busy = {p.node for p in placed if p.left >= UNIT // 2}
            if added or not busy or len(progress.outputs) < limit // 8:
                return
            cluster.remove_node(next(n for n in cluster.list_all_nodes() if n.node_id in busy), allow_graceful=False)
            added = cluster.add_node(num_cpus=1, object_store_memory=STORE_BYTES).node_id

        run(spec, planned.data, pool, out / "cluster", episodes=list(planned.episodes()), on_progress=watch)
        stats = pool.stats
    expected = lines(out / "one")
    different = sum(a != b for a, b in zip(lines(out / "cluster"), expected, strict=True))
    return Found(limit, different, stats["units"], stats["units_lost"], by_node[added], time.monotonic() - began)


def throughput(limit: int, repeats: int = 3) -> None:
    """Queries per second of one process, and of one and two replicas on Ray, without loading and start."""
    print("| how | queries/s |\n|---|--:|")
    for name, words in (
        ("one process", ()),
        ("one replica on Ray", ("--ray", "local", "--replicas", "1")),
        ("two replicas on Ray", ("--ray", "local", "--replicas", "2")),
    ):
        rates = []
        for _ in range(repeats):
            with tempfile.TemporaryDirectory() as out:
                subprocess.run(command(Path(out), limit, "--shots", "16", *words), check=True, capture_output=True)
                (record,) = Path(out).rglob("run.json")
                rates.append(limit / json.loads(record.read_text())["timings"]["seconds"])
        print(f"| {name} | {statistics.median(rates):.1f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cluster", description=__doc__)
    parser.add_argument("--limit", type=int, default=400)
    parser.add_argument("--throughput", action="store_true", help="time one process and replicas instead")
    args = parser.parse_args()
    if args.throughput:
        throughput(args.limit)
        return
    with tempfile.TemporaryDirectory() as out:
        f = change_nodes(Path(out), args.limit)
    print(
        f"{f.queries} queries in {f.seconds:.0f} s: one node of three removed, one added; {f.lost} of {f.units} units",
        end=" ",
    )
    print(f"lost and done again, {f.late} queries answered on the added node, {f.different} lines different")


if __name__ == "__main__":
    main()
