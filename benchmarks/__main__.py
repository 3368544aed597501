"""python -m benchmarks [PART...]: how fast we are, and how much faster than OpenFlamingo with the same weights.

Parts: vqa, fixed, caption, rank, phases, floor, graphs (on CUDA), search, idefics, hf, server, memory, startup, load,
rices; all of them if none is named. `search` counts, it times nothing.
Every figure is a median; both sides run in turns on the same prompts, the same number of threads and the same clock.
Prints Markdown.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
from pathlib import Path

import torch

from benchmarks.compare import Comparison, How
from benchmarks.floor import floor
from benchmarks.graphs import graphs
from benchmarks.hf import hf
from benchmarks.idefics import idefics
from benchmarks.search import search
from benchmarks.server import server
from benchmarks.upkeep import load, memory, rices, startup
from benchmarks.world import MODELS

AGAINST_PEER = ("vqa", "fixed", "caption", "rank", "phases", "floor", "graphs")
PARTS = (*AGAINST_PEER, "search", "idefics", "hf", "server", "memory", "startup", "load", "rices")


def main() -> None:
    """Run the parts asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of matrix products, on both sides")
    parser.add_argument("--repeats", type=int, default=3, help="a figure is the median of so many")
    parser.add_argument("--queries", type=int, default=16, help="of ours, a measurement")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall", help="cpu: for a machine that others use")
    parser.add_argument("--shots", default="0,4,8,16,32")
    parser.add_argument("--candidates", default="2,100,1000")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help="of our side")
    parser.add_argument("--model", choices=tuple(MODELS), default="small", help="the shapes of both sides")
    parser.add_argument("--device", default="cpu", help="of both sides")
    parser.add_argument("--workers", type=int, default=0, help="processes that open pictures for us")
    parser.add_argument("--peer-batch", type=int, default=0, help="the peer's queries at a time; 0: see compare.py")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "flamingo-eval-benchmarks")
    parser.add_argument("--no-peer", action="store_true", help="our side alone")
    given = parser.parse_args()
    unknown = [p for p in given.parts if p not in PARTS]
    if unknown:
        parser.error(f"unknown part {', '.join(unknown)}. Parts: {', '.join(PARTS)}")
    parts = given.parts or PARTS
    torch.set_num_threads(given.threads)
    print(f"{_processor()}, {given.threads} threads, {given.clock} clock, torch {torch.__version__},")
    print(
        f"Python {platform.python_version()}, load {os.getloadavg()[0]:.1f}; medians of {given.repeats}.\n", flush=True
    )
    shots = tuple(int(s) for s in given.shots.split(","))
    if set(AGAINST_PEER) & set(parts):
        how = How(
            work=given.work,
            threads=given.threads,
            repeats=given.repeats,
            clock=given.clock,
            dtype=given.dtype,
            peer=not given.no_peer,
            queries=given.queries,
            shots=shots,
            model=given.model,
            device=given.device,
            workers=given.workers,
            peer_batch=given.peer_batch,
        )
        with Comparison(how) as compare:
            if "vqa" in parts:
                compare.vqa(shots)
            if "fixed" in parts:
                compare.vqa([max(shots)], fixed=True)
            if "caption" in parts:
                compare.caption(shots)
            if "rank" in parts:
                compare.rank([int(c) for c in given.candidates.split(",")])
            if "phases" in parts:
                compare.phases(shots)
            if "floor" in parts:
                floor(compare, shots)
            if "graphs" in parts and compare.model.device.type == "cuda":
                graphs(compare, shots)
    if "search" in parts:
        search()
    if "idefics" in parts:
        idefics(given.work, shots, given.queries, given.repeats, given.device, given.dtype)
    if "hf" in parts:
        hf(shots, given.queries, given.repeats, given.clock)
    if "server" in parts:
        server(given.repeats)
    if "memory" in parts:
        memory()
    if "startup" in parts:
        startup(given.repeats)
    if "load" in parts:
        load(given.work)
    if "rices" in parts:
        rices()


def _processor() -> str:
    listed = Path("/proc/cpuinfo")
    lines = listed.read_text().splitlines() if listed.is_file() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()} ({os.cpu_count()} logical)"


if __name__ == "__main__":
    main()
