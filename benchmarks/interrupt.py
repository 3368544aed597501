"""Kill the command at random moments, restart it until it finishes, compare: python -m benchmarks.interrupt.

Each run is killed with SIGKILL (sometimes with Ctrl-C, or with an incomplete last line as after a power cut) and
compared byte for byte with an uninterrupted one: outputs.jsonl and
scores.json. Tiny checkpoint, embedded sample, CPU. Exit code 1 if any run differs.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

MOST_KILLS = 3  # kills per run; then it may finish


@dataclass(slots=True)
class Counts:
    """Counts of events so far."""

    runs: int = 0
    killed: int = 0
    interrupted: int = 0
    torn: int = 0
    different: int = 0


def command(out: Path, limit: int) -> list[str]:
    options = ["--shots", "4", "--limit", str(limit), "--device", "cpu", "--out", str(out), "--json"]
    return [sys.executable, "-m", "flamingo_eval", "run", "vqav2", *options]


def results(out: Path) -> dict[str, bytes]:
    """The bytes of outputs.jsonl and scores.json, by path below `out`."""
    return {str(p.relative_to(out)): p.read_bytes() for n in ("outputs.jsonl", "scores.json") for p in out.rglob(n)}


def interrupted(out: Path, limit: int, seconds: float, rng: random.Random, counts: Counts) -> bool:
    """Start the command and stop it at a random moment of its usual duration. False: it finished before."""
    kind = signal.SIGINT if rng.random() < 0.2 else signal.SIGKILL
    with subprocess.Popen(command(out, limit), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as started:
        if rng.random() < 0.5:  # a random moment of the whole run, or while answers are written
            time.sleep(rng.uniform(0.0, seconds))
        else:
            before = _written(out)
            while started.poll() is None and _written(out) <= before:
                time.sleep(0.005)
            time.sleep(rng.uniform(0.0, seconds / 3))
        if started.poll() is not None:
            return False
        os.kill(started.pid, kind)
    counts.killed += kind == signal.SIGKILL
    counts.interrupted += kind == signal.SIGINT
    if rng.random() < 0.3:
        counts.torn += _tear(out, rng)
    return True


def _written(out: Path) -> int:
    return sum(p.stat().st_size for p in out.rglob("outputs.jsonl"))


def _tear(out: Path, rng: random.Random) -> bool:
    """Cut the last line of an unfinished outputs.jsonl in its middle, or put NUL bytes after it."""
    for path in out.rglob("outputs.jsonl"):
        size = path.stat().st_size
        if size and not (path.parent / "scores.json").exists():
            if rng.random() < 0.5:
                os.truncate(path, size - rng.randint(1, min(size, 80)))
            else:
                with path.open("ab") as file:
                    file.write(bytes(rng.randint(1, 64)))
            return True
    return False


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--limit", type=int, default=100, help="queries per run")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="start no new run after this time")
    args = parser.parse_args()
    rng, counts, began = random.Random(args.seed), Counts(), time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        started = time.monotonic()
        subprocess.run(command(root / "whole", args.limit), check=True, capture_output=True)
        seconds = time.monotonic() - started
        expected = results(root / "whole")
        while counts.runs < args.runs and time.monotonic() - began < args.seconds:
            out = root / f"run{counts.runs}"
            kills = 0
            while kills < rng.randint(1, MOST_KILLS) and interrupted(out, args.limit, seconds, rng, counts):
                kills += 1
            subprocess.run(command(out, args.limit), check=True, capture_output=True)
            counts.runs += 1
            counts.different += results(out) != expected
            print(counts, flush=True)
    return int(counts.different > 0)


if __name__ == "__main__":
    sys.exit(main())
