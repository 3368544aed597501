"""A run and its folder: run.json, outputs.jsonl, scores.json (design 4.5).

run.json is written first (status `running`) and replaced at the end. outputs.jsonl gets one line per finished query,
flushed at once, and is sorted into query order at the end. scores.json appears only when a run is complete. Complete
files are written under a temporary name and renamed, so that a half-written file cannot look finished.
"""

from __future__ import annotations

import dataclasses
import errno
import fcntl
import json
import math
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from flamingo_eval.errors import FlamingoEvalError, RunError
from flamingo_eval.files import json_text, parse_json, write_atomically
from flamingo_eval.metrics.baselines import MAJORITY, RANDOM
from flamingo_eval.records import SCORE_DECIMALS, Best, Copying, Output

MEDIA_INDEX = "media.jsonl"
CEILING = "ceiling"  # in a score's breakdown: how many queries had their answer among their shots (fast binding)
BELOW = (CEILING, MAJORITY, RANDOM)  # in a score's breakdown, and rows of their own below it: no model's scores

FLAGS = ("any", "majority", "last")  # of Copying; omitted from a line if false


@dataclass(frozen=True, slots=True)
class RunFolder:
    """The files of one run: run.json and scores.json (record.py), outputs.jsonl, media.jsonl (media_index.py)."""

    path: Path

    @property
    def run(self) -> Path:
        return self.path / "run.json"

    @property
    def outputs(self) -> Path:
        return self.path / "outputs.jsonl"

    @property
    def scores(self) -> Path:
        return self.path / "scores.json"

    @property
    def lock(self) -> Path:
        return self.path / ".lock"


@contextmanager
def locked(folder: RunFolder) -> Iterator[None]:
    """Lock the run folder. Raises RunError if another process is writing it."""
    try:
        folder.path.mkdir(parents=True, exist_ok=True)
        handle = folder.lock.open("w")
    except OSError as error:
        raise RunError(f"{folder.path}: cannot be written: {error.strerror}.", fix="Choose another --out.") from error
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise RunError(
                f"{folder.path}: another process is writing this run.",
                fix="Wait for it, or use another --out.",
            ) from error
        try:
            yield
        finally:
            folder.lock.unlink(missing_ok=True)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write JSON under a temporary name, then rename it: the file is the old or the new one, never half of it."""
    _write(path, json_text(value))


def _write(path: Path, text: str) -> None:
    try:
        write_atomically(path, text)
    except OSError as error:
        raise write_error(path, error) from error


def write_error(path: Path, error: OSError) -> FlamingoEvalError:
    """The RunError for a file that cannot be written, with the reason and a fix."""
    if error.errno == errno.ENOSPC:
        return RunError(f"{path}: the disk is full.", fix="Free some space, then run the same command: it resumes.")
    return RunError(f"{path}: cannot be written: {error.strerror}.")


def output_line(output: Output) -> str:
    """One line of outputs.jsonl. Scores keep six decimals (SCORE_DECIMALS)."""
    value = {k: v for k, v in dataclasses.asdict(output).items() if v not in (None, "")}
    if output.raw == "":
        value["raw"] = ""
    if output.prediction == "":
        value["prediction"] = ""
    if output.scores is not None:
        value["scores"] = [_score_json(s) for s in output.scores]
    if output.best is not None:
        value["best"]["score"] = _score_json(output.best.score)
    if output.copying is not None:
        value["copying"] = {k: v for k, v in value["copying"].items() if v is not None and (v or k not in FLAGS)}
    return json.dumps(value, ensure_ascii=False) + "\n"


def _score_json(score: float) -> float | str:
    return round(score, SCORE_DECIMALS) if math.isfinite(score) else str(score)


def parse_output(line: str) -> Output:
    """The Output of a line of outputs.jsonl. Raises ValueError for a truncated or foreign line."""
    value = parse_json(line)
    if not isinstance(value, dict) or "id" not in value:
        raise ValueError("not an output")
    field_names = {f.name for f in dataclasses.fields(Output)}
    value = {k: v for k, v in value.items() if k in field_names}
    value["shots"] = tuple(value.get("shots", ()))
    value["tokens"] = value.get("tokens", 0)
    if "scores" in value:
        value["scores"] = tuple(float(s) for s in value["scores"])
    if "best" in value:
        value["best"] = Best(value["best"]["candidate"], float(value["best"]["score"]))
    if "copying" in value:
        value["copying"] = _parse_copying(value["copying"])
    output = Output(**value)
    texts = (
        output.id,
        *output.shots,
        output.error,
        output.media,
        *(t for t in (output.raw, output.prediction) if t is not None),
    )
    if not all(isinstance(text, str) for text in texts) or type(output.tokens) is not int:
        raise ValueError("not an output")
    if output.best is not None and not (type(output.best.candidate) is int and output.best.candidate >= 0):
        raise ValueError("not an output")
    if not (output.score is None or type(output.score) in (int, float)):
        raise ValueError("not an output")
    return output


def _parse_copying(value: Any) -> Copying:
    copying = Copying(**value)
    flags = (copying.any, copying.majority, copying.last)
    scores = (copying.majority_score, copying.last_score)
    if not (
        all(type(flag) is bool for flag in flags)
        and all(type(flag) in (bool, type(None)) for flag in (copying.covered, copying.right))
        and all(type(score) in (int, float, type(None)) for score in scores)
    ):
        raise ValueError("not an output")
    return copying


def read_outputs(path: Path) -> tuple[list[Output], int]:
    """The finished queries in an outputs.jsonl, and the length of its valid lines in bytes.

    The first line that cannot be read (truncated by a power cut, a full disk, a kill) and everything after it are
    ignored, because lines after a truncated one may be wrong too.
    """
    outputs: list[Output] = []
    valid_bytes = 0
    if not path.is_file():
        return outputs, valid_bytes
    with path.open("rb") as file:
        for line in file:
            if not line.endswith(b"\n"):
                break
            try:
                outputs.append(parse_output(line.decode("utf-8")))
            except (ValueError, TypeError, OverflowError, RecursionError):
                break
            valid_bytes += len(line)
    return outputs, valid_bytes


@contextmanager
def appending(path: Path, valid_bytes: int) -> Iterator[IO[str]]:
    """outputs.jsonl, truncated to its valid lines and opened to append."""
    try:
        with path.open("ab") as file:
            file.truncate(valid_bytes)
        with path.open("a", encoding="utf-8") as file:
            yield file
    except OSError as error:
        raise write_error(path, error) from error


def write_outputs(path: Path, outputs: Sequence[Output]) -> None:
    """Rewrite outputs.jsonl in query order, with per-example scores."""
    _write(path, "".join(output_line(o) for o in outputs))


def find_runs(roots: Sequence[Path]) -> list[RunFolder]:
    """All complete runs below the given folders, sorted by path. Raises RunError for a folder without runs."""
    folders: dict[Path, RunFolder] = {}
    for path in roots:
        if not path.exists():
            raise RunError(f"{path}: there is no such folder.", fix="`flamingo-eval run` writes runs below results/.")
        paths = sorted(p.parent for p in path.rglob("scores.json"))
        if not paths:
            raise RunError(f"{path}: no complete run in it.", fix="The same command resumes an interrupted run.")
        folders.update({p: RunFolder(p) for p in paths})
    return [folders[p] for p in sorted(folders)]


def remove_run(folder: RunFolder) -> None:
    """Remove a run (--fresh): its own files and the lock's folder, but no files a user may have added."""
    for path in (folder.scores, folder.outputs, folder.run, folder.path / MEDIA_INDEX):
        path.unlink(missing_ok=True)
    if folder.path.is_dir() and not any(folder.path.iterdir()):
        shutil.rmtree(folder.path)
