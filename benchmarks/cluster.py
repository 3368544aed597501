"""Three nodes of a Ray cluster in one machine; in the middle of a run one is removed and another added.

python -m benchmarks.cluster. Needs the extra `ray`. Prints what was lost, done again and different from one process.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.kill_loop import command, lines
from flamingo_eval.plan import Choices, load_questions, plan_jobs
from flamingo_eval.runner import Progress, run
from flamingo_eval.scale.crew import Crew
from flamingo_eval.scale.ray_replicas import ray_replicas
from flamingo_eval.scale.worker import Worker

UNIT = 32  # queries: many units, so that there is something to lose and something left for who comes late


@dataclass(frozen=True, slots=True)
class Found:
    """What became of the run. `late`: queries that the replica of the added node answered."""

    queries: int
    different: int
    units: int
    lost: int
    late: int
    seconds: float


@contextmanager
def three_nodes() -> Iterator[Any]:
    """A head without room for replicas, and two nodes with room for one each."""
    from ray.cluster_utils import Cluster

    settings = {"include_dashboard": False, "object_store_memory": 100 * 2**20}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **settings})
    try:
        for _ in range(2):
            cluster.add_node(num_cpus=1, object_store_memory=settings["object_store_memory"])
        cluster.wait_for_nodes()
        yield cluster
    finally:
        cluster.shutdown()


def change_nodes(out: Path, limit: int) -> Found:
    """Run with three replicas of which two fit; once a part is done, a node goes and another comes."""
    (job,) = plan_jobs(load_questions(["vqav2"], "flamingo")[0], Choices(limit=limit))
    one = Worker("tiny", device="cpu")
    identity = one.identity()
    spec = replace(
        job.spec, model=identity.name, model_sha256=identity.sha256, device=identity.device, dtype=identity.dtype
    )
    with one.engine:
        run(spec, job.data, one.engine, out / "one", episodes=job.episodes)
    began = time.monotonic()
    with three_nodes() as cluster:
        joined = (cluster.address, "3", None, "tiny", "cpu", "auto", "auto", None)
        with ray_replicas(*joined) as (replicas, _):
            crew = Crew(replicas, most=UNIT)
            changed = threading.Event()
            answered_before = 0

            def change() -> None:
                nonlocal answered_before
                answered_before = sum(s.queries for s in crew.standings)
                cluster.remove_node(cluster.list_all_nodes()[-1], allow_graceful=False)
                cluster.add_node(num_cpus=1, object_store_memory=100 * 2**20)

            def watch(progress: Progress) -> None:
                if len(progress.outputs) >= limit // 8 and not changed.is_set():
                    changed.set()
                    threading.Thread(target=change, daemon=True).start()

            run(spec, job.data, crew, out / "cluster", episodes=job.episodes, watch=watch)
            stats = crew.stats
            late = sum(s.queries for s in crew.standings) - answered_before
    expected = lines(out / "one")
    different = sum(a != b for a, b in zip(lines(out / "cluster"), expected, strict=True))
    return Found(limit, different, stats["units"], stats["units_lost"], late, time.monotonic() - began)


def throughput(limit: int, repeats: int = 3) -> None:
    """Queries a second of one process, and of one and two replicas on Ray; loading and starting left out."""
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
    asked = parser.parse_args()
    if asked.throughput:
        throughput(asked.limit)
        return
    with tempfile.TemporaryDirectory() as out:
        f = change_nodes(Path(out), asked.limit)
    print(
        f"{f.queries} queries in {f.seconds:.0f} s: one node of three removed, one added; {f.lost} of {f.units} units",
        end=" ",
    )
    print(f"lost and done again, {f.late} queries answered after the change, {f.different} lines different")


if __name__ == "__main__":
    main()
