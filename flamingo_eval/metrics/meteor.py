"""METEOR 1.5 as a child process: its Java program reads lines and writes answers to its standard output.

The program is part of pycocoevalcap, and the lines have the form of its wrapper. The process is our own: it has a fixed
language (the program reads its own numbers with the locale's decimal mark), and an error in it affects only METEOR and
never blocks the exit.

    SCORE ||| reference ||| ... ||| hypothesis   answer: the statistics of the pair, one line
    EVAL ||| statistics ||| ...                  answer: the score of each pair and of all, one line each
"""

from __future__ import annotations

import atexit
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from threading import Lock

from pycocoevalcap.meteor import meteor as toolkit

from flamingo_eval.errors import MetricError
from flamingo_eval.metrics.java import java_command, java_environment

FOLDER = Path(toolkit.__file__).parent
MEMORY = "-Xmx2G"
_one_at_a_time = Lock()


class Meteor:
    """The running program. It needs some seconds at the start to read its paraphrases."""

    def __init__(self) -> None:
        self._messages = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process; a pipe could fill up
        self._process = subprocess.Popen(
            [*java_command(), MEMORY, "-jar", toolkit.METEOR_JAR, "-", "-", "-stdio", "-l", "en", "-norm"],
            cwd=FOLDER,
            env=java_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._messages,
        )

    def score(self, predictions: Sequence[str], references: Sequence[Sequence[str]]) -> tuple[float, list[float]]:
        """METEOR of the corpus and of each prediction, 0-1, on tokenised text. Raises MetricError."""
        statistics = []
        for candidate, caption_references in zip(predictions, references, strict=True):
            hypothesis = candidate.replace("|||", "").replace("  ", " ")
            self._write(" ||| ".join(("SCORE", *caption_references, hypothesis)))
            statistics.append(self._line())
        self._write(" ||| ".join(("EVAL", *statistics)))
        per_caption = [self._number() for _ in predictions]
        return self._number(), per_caption

    def close(self) -> None:
        """End the program at once."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._messages):
            if pipe is not None:
                with suppress(OSError):  # text that was never written is dropped
                    pipe.close()

    def _write(self, line: str) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(f"{line}\n".encode("utf-8", "replace"))
            self._process.stdin.flush()
        except OSError as error:
            raise self._failed("it stopped before all captions were scored") from error

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line.endswith(b"\n"):
            raise self._failed("it stopped without an answer")
        return line.decode("utf-8", "replace").strip()

    def _number(self) -> float:
        line = self._line()
        try:
            return float(line)
        except ValueError:
            raise self._failed(f"expected a number, got {line[:60]!r}") from None

    def _failed(self, what: str) -> MetricError:
        self._messages.seek(0)
        message = self._messages.read().decode("utf-8", "replace").strip()
        return MetricError(
            f"METEOR's Java program failed: {what}{f': {message[-300:]}' if message else ''}.",
            fix="`flamingo-eval doctor` shows which Java is used.",
        )


def meteor_scores(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> tuple[float, list[float]]:
    """METEOR of the corpus and of each prediction, 0-1, on tokenised text. Raises MetricError."""
    with _one_at_a_time:
        program = _running()
        try:
            return program.score(predictions, references)
        except BaseException:  # stopped between question and answer: its next line would be the answer to this call
            _running.cache_clear()
            atexit.unregister(program.close)
            program.close()
            raise


@lru_cache(maxsize=1)
def _running() -> Meteor:
    """The one program of this process, shared by all tasks of a command."""
    try:
        program = Meteor()
    except OSError as error:
        raise MetricError(f"METEOR's Java program cannot be started: {error}.") from error
    atexit.register(program.close)
    return program
