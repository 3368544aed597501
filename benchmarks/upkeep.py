"""Costs of a run other than arithmetic: memory over queries, the time to start and to load, the search of RICES."""

from __future__ import annotations

import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from flamingo_eval.models.checkpoint_files import CONFIG, WEIGHTS
from flamingo_eval.models.config_json import write_config
from flamingo_eval.models.flamingo import Flamingo
from flamingo_eval.models.presets import PRESETS

_MANY = """
import resource, sys
from flamingo_eval import DecodeSpec, Prompt, load_model
model = load_model("tiny")
prompts = (Prompt([f"Question: what is {i}? Answer:"]) for i in range(int(sys.argv[1])))
for _ in model.engine.generate(prompts, DecodeSpec(beams=1, max_new_tokens=1)):
    pass
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


_LOAD = """
import resource, sys, time
from pathlib import Path
import torch
from flamingo_eval.models.checkpoint import load_flamingo
began = time.perf_counter()
flamingo = load_flamingo(Path(sys.argv[1]), torch.device("cpu"), torch.bfloat16)
loaded = time.perf_counter() - began
for p in flamingo.parameters():
    p.view(torch.uint8).view(-1)[::4096].sum()
touched = time.perf_counter() - began
print(loaded, touched, sum(p.numel() * 2 for p in flamingo.parameters()))
"""
_RICES = """
import resource, sys, time
import numpy as np
from flamingo_eval.prompting.feature_store import SEARCH_ROWS
from flamingo_eval.prompting.rices import nearest
rows, rng = int(sys.argv[1]), np.random.default_rng(0)
def blocks():
    for first in range(0, rows, SEARCH_ROWS):
        block = rng.standard_normal((min(SEARCH_ROWS, rows - first), 768), np.float32)
        yield first, block / np.linalg.norm(block, axis=1, keepdims=True)
began = time.perf_counter()
for _ in blocks():
    pass
drawing = time.perf_counter() - began
queries = next(blocks())[1][:256]
began = time.perf_counter()
nearest(queries, blocks(), 32)
print(time.perf_counter() - began - drawing, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""
SHAPES = ("openflamingo-3b", "openflamingo-9b")


def memory() -> None:
    """Largest memory of a process over more and more queries."""
    print("Memory over the number of queries (tiny, text alone)\n\n| queries | MiB |\n|---|---|")
    for n in (1000, 10_000, 214_354):
        done = subprocess.run([sys.executable, "-c", _MANY, str(n)], capture_output=True, text=True, check=True)
        print(f"| {n} | {done.stdout.strip()} |", flush=True)
    print(flush=True)


def startup(repeats: int) -> None:
    """Wall time of commands in the shell."""
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


def load(work: Path) -> None:
    """Loading real shapes in bfloat16 from sparse files of zeros: our part of the time, without the disk's."""
    print("Loading on a CPU in bfloat16, files of zeros in the page cache\n")
    print("| shape | GB | loaded, s | every page touched, s |\n|---|---|---|---|")
    for name in SHAPES:
        with tempfile.TemporaryDirectory(dir=work) as folder:
            _write_zeros(Path(folder), name)
            done = subprocess.run([sys.executable, "-c", _LOAD, folder], capture_output=True, text=True, check=True)
        loaded, touched, size = map(float, done.stdout.split())
        print(f"| {name} | {size / 1e9:.1f} | {loaded:.1f} | {touched:.1f} |", flush=True)
    print(flush=True)


def _write_zeros(folder: Path, preset: str) -> None:
    """A checkpoint folder without a tokenizer: config.json, and a sparse file of weights."""
    config = PRESETS[preset]
    write_config(config, folder / CONFIG)
    with torch.device("meta"):
        shapes = {name: list(tensor.shape) for name, tensor in Flamingo(config).state_dict().items()}
    header, end = {}, 0
    for name, shape in shapes.items():
        begin, end = end, end + 2 * math.prod(shape)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with (folder / WEIGHTS).open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)


def rices() -> None:
    """Time and memory of searching a support set, 256 queries, 32 shots, 768 numbers per picture."""
    print("RICES over the size of the support set: the search, 256 queries\n\n| examples | s | MiB |\n|---|---|---|")
    for rows in (10_000, 100_000, 1_000_000):
        command = [sys.executable, "-c", _RICES, str(rows)]
        seconds, peak = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        print(f"| {rows:,} | {float(seconds):.2f} | {peak} |", flush=True)
    print(flush=True)
