"""The checks of `flamingo-eval smoke`, in order: load, answer, rank, batches, resume, pictures, shots, memory.

Each check is a function of a Bench. It returns its result in one line, or raises CheckFailedError with the numbers.
"""

from __future__ import annotations

import math
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import comb
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from flamingo_eval.api import load_model
from flamingo_eval.errors import FlamingoEvalError
from flamingo_eval.evaluation import evaluate
from flamingo_eval.records import Output
from flamingo_eval.runs.folder import RunFolder, read_outputs

if TYPE_CHECKING:
    from flamingo_eval.api import Model
    from flamingo_eval.backends.hf.model import HFModel

QUERIES = 24  # of vqav2@sample at 4 shots: the queries of most checks
BINDING = 40  # episodes of fast binding, five ways, 8 shots
WAYS = 5
LEAST_CHANGED = 0.1  # share of answers that shuffled query pictures must change
SIGNIFICANT = 0.05
KILL_AFTER = 3  # answered queries on disk before the process is killed
PATIENCE_SECONDS = 120.0  # seconds for the process to answer that many queries
GROWTH_MB = 64.0  # a larger increase after answering again is a leak

Status = Literal["passed", "failed", "skipped"]


class CheckFailedError(Exception):
    """A check ran and failed."""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The result of one check: name, status, a line of text, and seconds."""

    name: str
    status: Status
    message: str
    seconds: float


@dataclass
class Bench:
    """The model under test and a folder for its runs."""

    name: str
    folder: Path
    device: str = "auto"
    dtype: str = "auto"
    model_args: str = ""
    max_memory_gb: float | None = None

    @cached_property
    def model(self) -> Model | HFModel:
        """The model, loaded once, by the first check."""
        return load_model(self.name, self.device, self.dtype, self.model_args)

    def run(self, out: str, task: str = "vqav2", shots: int = 4, limit: int | None = None, **options: str) -> RunFolder:
        """The folder of one finished run of this bench."""
        batch_size = options.pop("batch_size", "8")
        evaluation = evaluate(
            self.model,
            [task],
            shots=shots,
            limit=limit or QUERIES,
            out=self.folder / out,
            batch_size=batch_size,
            split=options.pop("split", None),
            ablation=options.pop("ablation", ""),
        )
        return evaluation.runs[0].folder

    @cached_property
    def answered(self) -> RunFolder:
        """vqav2@sample at 4 shots, uninterrupted."""
        return self.run("answered")


def outputs_of(folder: RunFolder) -> list[Output]:
    """Outputs of all queries of a finished run, including failed ones."""
    return read_outputs(folder.outputs)[0]


def loads(bench: Bench) -> str:
    """The checkpoint loads without missing or unexpected tensors."""
    model = bench.model
    return f"{model.name} on {model.device}, {str(model.dtype).removeprefix('torch.')}"


def answers(bench: Bench) -> str:
    """Every query gets a text, and not every text is empty."""
    outputs = outputs_of(bench.answered)
    _require_answered(outputs)
    texts = {o.prediction for o in outputs}
    if texts == {""}:
        raise CheckFailedError(f"all {len(outputs)} answers are empty")
    return f"{len(outputs)} queries, {len(texts)} different answers"


def ranks(bench: Bench) -> str:
    """Every candidate of a close-ended task gets a score."""
    outputs = outputs_of(bench.run("ranked", "hateful_memes", limit=12))
    _require_answered(outputs)
    scores = [o.scores or () for o in outputs]
    if any(len(row) != 2 or not all(map(math.isfinite, row)) for row in scores):
        raise CheckFailedError("expected two finite scores for each query of hateful_memes@sample")
    if len(set(scores)) == 1:
        raise CheckFailedError(f"all {len(scores)} queries have the same scores: {scores[0]}")
    return f"{len(outputs)} queries, two candidates each"


def batches(bench: Bench) -> str:
    """Texts do not depend on the batch."""
    alone, batched = (outputs_of(bench.run(f"batch-{n}", batch_size=str(n))) for n in (1, 16))
    changed_ids = [a.id for a, b in zip(alone, batched, strict=True) if a.raw != b.raw]
    if changed_ids:
        raise CheckFailedError(
            f"{len(changed_ids)} of {len(alone)} answers differ between batch size 1 and 16, for example query "
            f"{changed_ids[0]}; float32 gives the same text, low precision may not"
        )
    return f"{len(alone)} answers are equal with batch size 1 and 16"


def resumes(bench: Bench) -> str:
    """A run killed with SIGKILL and resumed gives the same bytes."""
    n_answered = _killed_run(bench)
    folder = bench.run("resumed")
    if outputs_of(folder) != outputs_of(bench.answered) or _bytes(folder) != _bytes(bench.answered):
        raise CheckFailedError(f"{folder.outputs.name} differs from that of an uninterrupted run")
    return f"killed after {n_answered} of {QUERIES} queries, resumed: equal bytes"


def looks(bench: Bench) -> str:
    """Answers change when query pictures are shuffled."""
    exchanged = outputs_of(bench.run("exchanged", ablation="query-images-shuffled"))
    own_answers = {o.id: o.prediction for o in outputs_of(bench.answered)}
    n_changed = sum(o.prediction != own_answers[o.id] for o in exchanged)
    if n_changed < LEAST_CHANGED * len(exchanged):
        raise CheckFailedError(f"shuffled query pictures change {n_changed} of {len(exchanged)} answers")
    return f"shuffled query pictures change {n_changed} of {len(exchanged)} answers"


def uses_shots(bench: Bench) -> str:
    """In fast binding only the shots give the right name, so shuffled labels must make the answers wrong."""
    is_right = _binding(bench, "")
    swapped = _binding(bench, "labels-shuffled")
    n_better = sum(is_right[id] > swapped[id] for id in is_right)
    n_worse = sum(is_right[id] < swapped[id] for id in is_right)
    p = sign_test(n_better, n_worse)
    figures = (
        f"{_percent(is_right)} % right in {WAYS}-way binding with 8 shots, {_percent(swapped)} % with their labels "
        f"exchanged (p {p:.3f})"
    )
    if p >= SIGNIFICANT:
        raise CheckFailedError(f"{figures}; --skip shots for a model that was not trained to use them")
    return figures


def stays_in_memory(bench: Bench) -> str:
    """Answering again needs no more memory, and the peak is below the limit, if given."""
    bench.run("memory-0")
    peak_before = peak_memory_mb()
    for i in (1, 2):
        bench.run(f"memory-{i}")
    peak = peak_memory_mb()
    if peak - peak_before > GROWTH_MB:
        raise CheckFailedError(
            f"peak memory grew from {peak_before:,.0f} to {peak:,.0f} MB while the same queries were answered"
        )
    if bench.max_memory_gb is not None and peak > bench.max_memory_gb * 1000:
        raise CheckFailedError(f"the peak is {peak / 1000:.2f} GB, above {bench.max_memory_gb:g} GB")
    return f"peak {peak:,.0f} MB"


CHECKS: Mapping[str, Callable[[Bench], str]] = {
    "loads": loads,
    "answers": answers,
    "ranks": ranks,
    "batches": batches,
    "resumes": resumes,
    "pictures": looks,
    "shots": uses_shots,
    "memory": stays_in_memory,
}


def run_checks(bench: Bench, skip: Sequence[str] = ()) -> Iterator[CheckResult]:
    """Run all checks; yields each result when it is ready. If the model does not load, the others are skipped."""
    loaded = True
    for name, check in CHECKS.items():
        if name in skip or not loaded:
            yield CheckResult(name, "skipped", "asked for" if name in skip else "the model does not load", 0.0)
            continue
        start = time.monotonic()
        try:
            status, message = "passed", check(bench)
        except (CheckFailedError, FlamingoEvalError) as error:
            status, message = "failed", str(error)
            loaded = name != "loads"
        yield CheckResult(name, "passed" if status == "passed" else "failed", message, time.monotonic() - start)


def sign_test(better: int, worse: int) -> float:
    """One-sided p-value of at least `better` wins among all untied pairs, if both sides are equally likely."""
    n = better + worse
    return float(sum(comb(n, k) for k in range(better, n + 1)) / 2**n)


def peak_memory_mb() -> float:
    """The largest resident set of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(peak / 1e6 if sys.platform == "darwin" else peak / 1e3)


def _require_answered(outputs: Sequence[Output]) -> None:
    failed_outputs = [o for o in outputs if o.error]
    if failed_outputs:
        raise CheckFailedError(f"{len(failed_outputs)} of {len(outputs)} queries failed: {failed_outputs[0].error}")


def _binding(bench: Bench, ablation: str) -> dict[str, float]:
    out = f"binding-{ablation or 'kept'}"
    outputs = outputs_of(bench.run(out, "fastbind", shots=8, limit=BINDING, split=f"seen-{WAYS}", ablation=ablation))
    _require_answered(outputs)
    return {o.id: o.score or 0.0 for o in outputs}


def _percent(scores: Mapping[str, float]) -> str:
    return f"{sum(scores.values()) / len(scores):.1f}"


def _bytes(folder: RunFolder) -> bytes:
    return folder.outputs.read_bytes()


def _killed_run(bench: Bench) -> int:
    """Start the run in a separate process and kill it; returns the number of queries it had answered."""
    words = [sys.executable, "-m", "flamingo_eval", "run", "vqav2", "--shots", "4", "--limit", str(QUERIES)]
    words += ["--model", bench.name, "--out", str(bench.folder / "resumed"), "--batch-size", "1"]
    words += ["--device", bench.model.device.type, "--dtype", str(bench.model.dtype).removeprefix("torch.")]
    words += ["--model-args", bench.model_args] if bench.model_args else []
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + PATIENCE_SECONDS
    try:
        while process.poll() is None and time.monotonic() < deadline:
            if _lines(bench.folder / "resumed") >= KILL_AFTER:
                os.kill(process.pid, signal.SIGKILL)
                break
            time.sleep(0.005)
    finally:
        process.kill()
        _, errors = process.communicate()
    if process.returncode not in (0, -signal.SIGKILL):
        raise CheckFailedError(f"the run ended with exit code {process.returncode}: {errors.strip()[-300:]}")
    return _lines(bench.folder / "resumed")


def _lines(folder: Path) -> int:
    files = list(folder.rglob("outputs.jsonl"))
    return files[0].read_bytes().count(b"\n") if files else 0
