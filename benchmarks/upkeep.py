"""What a run costs beside its arithmetic: memory over the number of queries, and the time to start."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

_MANY = """
import resource, sys
from flamingo_eval import DecodeSpec, Prompt, load_model
model = load_model("tiny")
prompts = (Prompt([f"Question: what is {i}? Answer:"]) for i in range(int(sys.argv[1])))
for _ in model.engine.generate(prompts, DecodeSpec(beams=1, max_new_tokens=1)):
    pass
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def memory() -> None:
    """Largest memory of a process over more and more queries."""
    print("Memory over the number of queries (tiny, text alone)\n\n| queries | MiB |\n|---|---|")
    for n in (100, 1000, 10_000):
        done = subprocess.run([sys.executable, "-c", _MANY, str(n)], capture_output=True, text=True, check=True)
        print(f"| {n} | {done.stdout.strip()} |", flush=True)
    print(flush=True)


def startup(repeats: int) -> None:
    """Wall time from the shell."""
    print("Start-up, wall time\n\n| command | seconds |\n|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"FLAMINGO_EVAL_CACHE": str(Path(folder) / "cache")}
        out = str(Path(folder) / "results")
        for name, arguments in (
            ("--help", ["--help"]),
            ("run vqav2 --shots 4, first time", ["run", "vqav2", "--shots", "4", "--out", out]),
            (
                "run vqav2 --shots 4, sample and pictures known",
                ["run", "vqav2", "--shots", "4", "--out", out, "--fresh"],
            ),
        ):
            times = []
            for _ in range(1 if "first" in name else repeats):
                began = time.perf_counter()
                command = [sys.executable, "-m", "flamingo_eval", *arguments]
                subprocess.run(command, capture_output=True, env=environment, check=True)
                times.append(time.perf_counter() - began)
            print(f"| `{name}` | {statistics.median(times):.2f} |", flush=True)
    print(flush=True)
