"""python -m benchmarks [PART...]: the speed of flamingo-eval, and of OpenFlamingo with the same weights.

Parts: vqa, fixed, caption, rank, phases, floor, graphs (on CUDA), search, idefics, hf, server, memory, startup, load,
rices; without PART all of them. `search` counts nodes and does not measure time.

Every figure is a median; both sides run alternately on the same prompts, with the same number of threads and the same
clock. Prints Markdown.
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
    """Run the requested parts."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="threads of both sides")
    parser.add_argument("--repeats", type=int, default=3, help="measurements per figure; their median is printed")
    parser.add_argument("--queries", type=int, default=16, help="queries per measurement, for flamingo-eval")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall", help="cpu: for a machine with other work")
    parser.add_argument("--shots", default="0,4,8,16,32")
    parser.add_argument("--candidates", default="2,100,1000")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help="dtype of flamingo-eval")
    parser.add_argument("--model", choices=tuple(MODELS), default="small", help="model shapes of both sides")
    parser.add_argument("--device", default="cpu", help="device of both sides")
    parser.add_argument("--workers", type=int, default=0, help="processes that open pictures, for flamingo-eval")
    parser.add_argument("--peer-batch", type=int, default=0, help="batch size of OpenFlamingo; 0: see compare.py")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "flamingo-eval-benchmarks")
    parser.add_argument("--no-peer", action="store_true", help="measure flamingo-eval alone")
    args = parser.parse_args()
    unknown = [p for p in args.parts if p not in PARTS]
    if unknown:
        parser.error(f"unknown part {', '.join(unknown)}. Parts: {', '.join(PARTS)}")
    parts = args.parts or PARTS
    torch.set_num_threads(args.threads)
    print(f"{_processor()}, {args.threads} threads, {args.clock} clock, torch {torch.__version__},")
    print(
        f"Python {platform.python_version()}, load {os.getloadavg()[0]:.1f}; medians of {args.repeats}.\n", flush=True
    )
    shots = tuple(int(s) for s in args.shots.split(","))
    if set(AGAINST_PEER) & set(parts):
        how = How(
            work=args.work,
            threads=args.threads,
            repeats=args.repeats,
            clock=args.clock,
            dtype=args.dtype,
            peer=not args.no_peer,
            queries=args.queries,
            shots=shots,
            model=args.model,
            device=args.device,
            workers=args.workers,
            peer_batch=args.peer_batch,
        )
        with Comparison(how) as compare:
            if "vqa" in parts:
                compare.vqa(shots)
            if "fixed" in parts:
                compare.vqa([max(shots)], fixed=True)
            if "caption" in parts:
                compare.caption(shots)
            if "rank" in parts:
                compare.rank([int(c) for c in args.candidates.split(",")])
            if "phases" in parts:
                compare.phases(shots)
            if "floor" in parts:
                floor(compare, shots)
            if "graphs" in parts and compare.model.device.type == "cuda":
                graphs(compare, shots)
    if "search" in parts:
        search()
    if "idefics" in parts:
        idefics(args.work, shots, args.queries, args.repeats, args.device, args.dtype)
    if "hf" in parts:
        hf(shots, args.queries, args.repeats, args.clock)
    if "server" in parts:
        server(args.repeats)
    if "memory" in parts:
        memory()
    if "startup" in parts:
        startup(args.repeats)
    if "load" in parts:
        load(args.work)
    if "rices" in parts:
        rices()


def _processor() -> str:
    listed = Path("/proc/cpuinfo")
    lines = listed.read_text().splitlines() if listed.is_file() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()} ({os.cpu_count()} logical)"


if __name__ == "__main__":
    main()
