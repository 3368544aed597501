"""Kill workers, then drivers, at random moments, and compare with one process: python -m benchmarks.kill_loop.

Needs the extra `ray`. Everything runs on this machine with the tiny checkpoint; prints one line per part.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from flamingo_eval.distributed.pool import ReplicaLostError, ReplicaPool
from flamingo_eval.distributed.ray_actors import ray_replicas
from flamingo_eval.distributed.spec import Deployment
from flamingo_eval.runs.plan import Choices, plan_runs
from flamingo_eval.runs.questions import load_questions
from flamingo_eval.runs.runner import run


def command(out: Path, limit: int, *words: str) -> list[str]:
    options = ["--limit", str(limit), "--device", "cpu", "--out", str(out), "--json", *words]
    return [sys.executable, "-m", "flamingo_eval", "run", "vqav2", *options]


def lines(out: Path) -> list[str]:
    (path,) = out.rglob("outputs.jsonl")
    return sorted(path.read_text().splitlines())


def compared(out: Path, expected: list[str]) -> str:
    answered = lines(out)
    ids = {line.split(",", 1)[0] for line in answered}
    missing = sum(line.split(",", 1)[0] not in ids for line in expected)
    return f"{missing} lost, {len(set(answered) - set(expected))} different of {len(expected)}"


def kill_workers(out: Path, limit: int, kills: int, rng: random.Random) -> tuple[int, ReplicaPool]:
    """One run with two replicas; every second or two one of them is killed, `kills` times or until the run ends."""
    (planned,) = plan_runs(load_questions(["vqav2"], "flamingo")[0], Choices(limit=limit))
    done = threading.Event()
    killed = 0
    with ray_replicas(Deployment("tiny", "cpu", ray="local", replicas="2")) as (replicas, model):

        def killer() -> None:
            nonlocal killed
            while killed < kills and not done.is_set():
                replica = rng.choice(replicas)
                try:
                    up = replica.identity(done)
                except ReplicaLostError:  # an earlier kill has had its effect
                    continue
                if up is not None:
                    time.sleep(rng.uniform(0.0, 0.3))
                    replica.ray.kill(replica.actor, no_restart=False)
                    killed += 1
                    time.sleep(0.5)

        pool = ReplicaPool(replicas, max_queries=128)
        spec = planned.spec(model)
        thread = threading.Thread(target=killer, daemon=True)
        thread.start()
        run(spec, planned.data, pool, out, episodes=list(planned.episodes()))
        done.set()
        thread.join()
    return killed, pool


def kill_driver(out: Path, limit: int, rng: random.Random) -> bool:
    """Start the command and kill it with SIGKILL after its first output. False: it finished before."""
    with subprocess.Popen(
        command(out, limit, "--ray", "local", "--replicas", "2"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as driver:
        before = sum(p.stat().st_size for p in out.rglob("outputs.jsonl"))
        while driver.poll() is None and sum(p.stat().st_size for p in out.rglob("outputs.jsonl")) <= before:
            time.sleep(0.02)
        time.sleep(rng.uniform(0.0, 0.2))
        if driver.poll() is not None:
            return False
        os.kill(driver.pid, signal.SIGKILL)
        return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=20, help="workers to kill")
    parser.add_argument("--drivers", type=int, default=5, help="drivers to kill")
    parser.add_argument("--limit", type=int, default=400)
    args = parser.parse_args()
    rng = random.Random(0)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        subprocess.run(command(root / "one", args.limit), check=True, capture_output=True)
        expected = lines(root / "one")
        killed = lost = runs = 0
        while killed < args.workers:
            some, pool = kill_workers(root / f"workers{runs}", args.limit, args.workers - killed, rng)
            killed, lost = killed + some, lost + pool.stats["units_lost"]
            print(f"run {runs}: {some} workers killed: {compared(root / f'workers{runs}', expected)}", flush=True)
            runs += 1
        print(f"{killed} workers killed in {runs} runs, {lost} units lost and done again", flush=True)
        killed = sum(kill_driver(root / "driver", args.limit, rng) for _ in range(args.drivers))
        subprocess.run(command(root / "driver", args.limit), check=True, capture_output=True)
        print(f"{killed} drivers killed: {compared(root / 'driver', expected)}")


if __name__ == "__main__":
    main()
