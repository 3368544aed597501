"""Kill a training run at random moments until it is done: python -m benchmarks.kill_training --kills 10.

A small bridge is trained once without interruption, and once with SIGKILL again and again: while it starts, between
updates, while a state is written. Both must end with the same weights.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

from flamingo_eval.training.bridge.invented import write_invented
from tests.support.shards import pairs, write_tar

WEIGHTS = Path("checkpoint") / "model.safetensors"


def write_recipe(folder: Path, updates: int) -> Path:
    """A recipe with invented parts and four shards of invented pairs, a state after nearly every update."""
    write_invented(folder / "built", 0)
    for i in range(4):
        write_tar(folder / f"{i}.tar", pairs(50, 50 * i))
    recipe = {
        "stage": "bridge",
        "name": "killed",
        "model": "built",
        "dtype": "float32",
        "init": "unit",
        "threads": 1,
        "optim": {"updates": updates, "lr": 0.001},
        "state": {"every_s": 0.05},
        "data": [{"name": "pairs", "kind": "pairs", "files": ["{0..3}.tar"], "batch": 6, "block": 32}],
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    return path


def seconds_trained(out: Path) -> float:
    """What the curves say."""
    with (out / "curves.csv").open(encoding="utf-8", newline="") as file:
        return float([row["seconds"] for row in csv.DictReader(file)][-1])


def sha256(out: Path) -> str:
    return hashlib.sha256((out / WEIGHTS).read_bytes()).hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--updates", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rng = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        recipe = write_recipe(folder, args.updates)
        command = [sys.executable, "-m", "flamingo_eval", "train", str(recipe), "--device", "cpu", "--out"]
        began = time.monotonic()
        subprocess.run([*command, str(folder / "whole")], check=True, capture_output=True)
        trained = seconds_trained(folder / "whole")
        start = time.monotonic() - began - trained
        expected = sha256(folder / "whole")
        kills = runs = unfinished = different = 0
        while kills < args.kills or runs == 0:
            runs += 1
            out = folder / f"killed-{runs}"
            while True:
                with subprocess.Popen(
                    [*command, str(out)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
                ) as process:
                    life = rng.uniform(0.5 * start, start + 2 * trained / (args.kills + 1))
                    try:
                        code = process.wait(life if kills < args.kills else None)
                        break
                    except subprocess.TimeoutExpired:
                        os.killpg(process.pid, signal.SIGKILL)
                        kills += 1
                states = sorted((out / "states").glob("*")) if (out / "states").is_dir() else []
                complete = [path.name for path in states if path.name.isdigit()]
                partial = any(path.name.startswith(".") for path in states)
                unfinished += partial
                print(
                    f"kill {kills} after {life:.1f} s: newest state {int(complete[-1]) if complete else 'none'}"
                    f"{', another one half written' if partial else ''}",
                    flush=True,
                )
            if code:
                sys.exit(f"the run ended with status {code}")
            same = sha256(out) == expected
            different += not same
            print(f"run {runs} ended after {kills} kills in all: {'the same' if same else 'OTHER'} weights", flush=True)
        print(
            f"{kills} kills, {unfinished} of them while a state was written; {args.updates} updates; {runs} runs, "
            f"{different} with other weights than the run without interruption (sha256 {expected[:16]})"
        )
        sys.exit(1 if different else 0)


if __name__ == "__main__":
    main()
