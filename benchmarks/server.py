"""Models behind a server: simultaneous requests to one with a delay of 200 ms, and memory over many queries.

The server is a separate process on loopback (`python -m benchmarks.server`): it reads a request, waits, and answers.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import torch
from PIL import Image as PillowImage

from flamingo_eval import DecodeSpec, Image, Prompt, Turn
from flamingo_eval.backends.server.budget import Budget
from flamingo_eval.backends.server.client import Client
from flamingo_eval.backends.server.engine import ServerEngine
from flamingo_eval.backends.server.options import ServerOptions

LATENCY, CONCURRENCY, QUERIES = 0.2, 16, 800
MANY, MARKS = 20_000, (2_000, 10_000, 20_000)
SHOTS, SIDE = 4, 64


def server(repeats: int, queries: int = QUERIES, many: int = MANY) -> None:
    """Print both tables."""
    most = CONCURRENCY / LATENCY
    with tempfile.TemporaryDirectory() as folder:
        prompts = _prompts(Path(folder))
        rates = []
        with _serving(LATENCY) as address:
            for _ in range(repeats):
                began = time.perf_counter()
                _ask(address, prompts, queries)
                rates.append(queries / (time.perf_counter() - began))
        rate = median(rates)
        print(f"| concurrency={CONCURRENCY}, a server that takes {LATENCY * 1000:.0f} ms, {SHOTS} shots | |\n|---|--:|")
        print(f"| requests per second, of {most:.0f} possible | {rate:.1f} ({100 * rate / most:.1f} %) |\n", flush=True)
        with _serving(0.0) as address:
            sizes = _ask(address, prompts, many)
    print(f"| memory over {many:,} queries | MiB |\n|---|--:|")
    for mark, size in sizes.items():
        print(f"| after {mark:,} | {size:.0f} |")


def _ask(address: str, prompts: list[Prompt], queries: int) -> dict[int, float]:
    """Ask this many queries; returns the resident memory at some points."""
    options = ServerOptions(model="tiny", concurrency=CONCURRENCY)
    engine = ServerEngine(Client((address,), options, Budget()), options)
    sizes = {}
    answers = engine.generate((prompts[i % len(prompts)] for i in range(queries)), DecodeSpec(beams=1))
    for n, (_, answer) in enumerate(answers, start=1):
        assert answer.error is None, answer.error
        if n in MARKS:
            sizes[n] = _resident()
    engine.close()
    return sizes


def _resident() -> float:
    """MiB of this process in memory (Linux)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


def _prompts(folder: Path) -> list[Prompt]:
    pictures = []
    generator = torch.Generator().manual_seed(0)
    for i in range(16):
        noise = torch.randint(0, 256, (16, 16, 3), generator=generator, dtype=torch.uint8).numpy()
        PillowImage.fromarray(noise).resize((SIDE, SIDE)).save(folder / f"{i}.jpg")
        pictures.append(Image(folder / f"{i}.jpg"))
    prompts = []
    for q in range(len(pictures)):
        shots = [pictures[(q + s) % len(pictures)] for s in range(SHOTS)]
        turns = [t for p in shots for t in (Turn("user", [p, "What is it?"]), Turn("assistant", "a thing"))]
        prompts.append(Prompt([*turns, Turn("user", [pictures[q], "What is it?"])], id=str(q)))
    return prompts


# -------------------------------------------------------------------------------------------------- the other process


@contextmanager
def _serving(latency: float) -> Iterator[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.server", str(latency)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}/v1"
    finally:
        process.terminate()
        process.wait()


async def _serve(latency: float) -> None:
    text = {"model": "tiny", "choices": [{"index": 0, "message": {"role": "assistant", "content": "red"}}]}
    body = json.dumps({**text, "usage": {"prompt_tokens": 400, "completion_tokens": 2}}).encode()
    answer = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(
                    int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if b"content-length" in line
                )
                await reader.readexactly(length)
                await asyncio.sleep(latency)
                writer.write(answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    listening = await asyncio.start_server(connected, "127.0.0.1", 0, limit=2**24)
    print(listening.sockets[0].getsockname()[1], flush=True)
    await listening.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve(float(sys.argv[1])))
