"""All of VQAv2 in the official layout, planned at five numbers of shots and three seeds: memory and time to an answer.

python -m benchmarks.plan_scale [--folder DIR] [--queries N --support N]

The rows are invented; their number, files and keys are VQAv2's. The pictures are hard links to a few small JPEG files:
the cost of decoding real ones is not measured. The bundled tiny checkpoint answers; the process ends at its first
answer. The files are written by another process, and are kept with --folder.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

from flamingo_eval.config.specs import RunSpec
from flamingo_eval.runs.backend import Backend, identity_of, load_backend
from flamingo_eval.runs.plan import Choices, PlannedRun, plan_runs
from flamingo_eval.runs.questions import load_questions
from flamingo_eval.runs.runner import Progress
from flamingo_eval.runs.session import Observer, Watch, run_all
from flamingo_eval.runs.task_data import TaskData

SIZES = {"val": (214_354, 40_504), "train": (443_757, 82_783)}  # questions and pictures
SHOTS, SEEDS = (0, 4, 8, 16, 32), (0, 1, 2)
LINKS = 20_000  # links to one file: file systems allow some tens of thousands
WORDS = (
    "what",
    "colour",
    "is",
    "the",
    "dog",
    "left",
    "of",
    "table",
    "how",
    "many",
    "people",
    "are",
    "on",
    "a",
    "bench",
)
ANSWERS = 3000


def write(root: Path, split: str, questions: int, pictures: int) -> None:
    """One split: its two JSON files, and a link for each picture."""
    year, rng = f"{split}2014", random.Random(split)
    first = 1 if split == "val" else 10_000_000
    with (
        (root / f"v2_OpenEnded_mscoco_{year}_questions.json").open("w") as questions_file,
        (root / f"v2_mscoco_{year}_annotations.json").open("w") as annotations_file,
    ):
        questions_file.write(f'{{"data_subtype": "{year}", "questions": [')
        annotations_file.write(f'{{"data_subtype": "{year}", "annotations": [')
        for i in range(questions):
            comma, row = "," if i else "", {"question_id": first + i, "image_id": first + i * pictures // questions}
            questions_file.write(
                comma + json.dumps(row | {"question": " ".join(rng.choices(WORDS, k=6)) + f" {i % 997}?"})
            )
            common, other = f"answer {rng.randrange(ANSWERS)}", f"answer {rng.randrange(ANSWERS)}"
            votes = [
                {"answer": common if k < 7 else other, "answer_confidence": "yes", "answer_id": k + 1}
                for k in range(10)
            ]
            labels = {"question_type": f"what {i % 65}", "answer_type": "other", "multiple_choice_answer": common}
            annotations_file.write(comma + json.dumps(row | labels | {"answers": votes}))
        questions_file.write("]}")
        annotations_file.write("]}")
    folder = root / year
    folder.mkdir()
    for i in range(pictures):
        path = folder / f"COCO_{year}_{first + i:012d}.jpg"
        if i % LINKS == 0:
            Image.new("RGB", (64, 48), (i // LINKS * 40, 90, 120)).save(path)
            source = path
        else:
            os.link(source, path)


class AnsweredError(Exception):
    """Raised after the first answer."""


class First(Observer):
    """Ends the session at its first answer."""

    @contextmanager
    def answering(self, spec: RunSpec, data: TaskData, total: int) -> Iterator[Watch]:
        """Around the first run."""

        def watch(_: Progress) -> None:
            raise AnsweredError

        yield watch


def measure(root: Path) -> None:
    """Plan all runs, answer one query, and print time and memory."""
    questions, _ = load_questions(["vqav2"], "flamingo")
    began = _Clock()
    runs = plan_runs(questions, Choices(shots=SHOTS, seeds=SEEDS, data=str(root)))
    read = _Clock()
    print(f"{len(runs)} runs of {len(runs[0].queries):,} queries planned, files read: {began}, {_peak()}")

    @contextmanager
    def opened(_: Sequence[PlannedRun]) -> Iterator[Backend]:
        print(f"pictures checked: {read} after that, {_peak()}")
        backend = load_backend("tiny", "cpu", "float32", workers=0)
        yield backend
        backend.close()

    with tempfile.TemporaryDirectory() as out:
        try:
            run_all(runs, opened, Path(out), identity=identity_of("tiny", "cpu", "float32"), observer=First())
        except AnsweredError:
            print(f"first answer: {read} after the files were read, {_peak()}")


class _Clock:
    """Wall time and processor time since the start; other programs may use the machine."""

    def __init__(self) -> None:
        self.wall, self.processor = time.perf_counter(), time.process_time()

    def __str__(self) -> str:
        wall, processor = time.perf_counter() - self.wall, time.process_time() - self.processor
        return f"{wall:.1f} s ({processor:.1f} s of processor time)"


def _peak() -> str:
    return f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f} GB"


def main() -> None:
    """Write missing files, and measure in a new process."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.plan_scale", description=__doc__)
    parser.add_argument("--folder", type=Path, help="write the files there and keep them")
    parser.add_argument("--queries", type=int, default=SIZES["val"][0])
    parser.add_argument("--support", type=int, default=SIZES["train"][0])
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        measure(args.measure)
        return
    with tempfile.TemporaryDirectory() as temporary:
        root = args.folder or Path(temporary) / "vqav2"
        if not root.is_dir():
            root.mkdir(parents=True)
            for split, n in (("val", args.queries), ("train", args.support)):
                rows, pictures = SIZES[split]
                write(root, split, n, max(1, round(pictures * n / rows)))
        subprocess.run([sys.executable, "-m", "benchmarks.plan_scale", "--measure", str(root)], check=True)


if __name__ == "__main__":
    main()
