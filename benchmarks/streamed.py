"""Memory over many streamed samples: `python -m benchmarks.streamed --samples 100000`.

Shards of pairs are written once, then streamed pass after pass; every row is a tenth of the samples: samples per
second, and the process's own memory (resident, in MB), which must stay constant.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path

from flamingo_eval.models.config import PreprocessConfig
from flamingo_eval.training.streams.samples import Look
from flamingo_eval.training.streams.stream import Opener, Stream
from flamingo_eval.training.streams.tar_pairs import TarPairs
from tests.support.shards import pairs, write_tar


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=100_000)
    parser.add_argument("--shards", type=int, default=20)
    parser.add_argument("--shard-size", type=int, default=500)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        paths = tuple(
            write_tar(Path(folder) / f"{i:03d}.tar", pairs(args.shard_size, i * args.shard_size))
            for i in range(args.shards)
        )
        stream = Stream("pairs", TarPairs(paths), seed=0)
        opener: Opener[int] = Opener(stream, Look(PreprocessConfig(size=64)), lambda sample, rng: len(sample.parts))
        tenth = args.samples // 10
        for _ in range(10):
            began = time.perf_counter()
            for _ in range(tenth // 100):
                opener.open(stream.take(100))
            rate = tenth / (time.perf_counter() - began)
            print(f"{stream.position.taken:>9,} samples {rate:>8,.0f}/s {_resident():>6.0f} MB", flush=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"peak {peak:.0f} MB; {opener.tally.broken} broken")


def _resident() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() / 2**20


if __name__ == "__main__":
    main()
