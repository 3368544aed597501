"""Everything the user can mend is a FlamingoEvalError; anything else that escapes is a bug.

FlamingoEvalError             exit code 1, message without traceback
├── UsageError                exit code 2: the command line contradicts itself
├── ConfigError               a YAML file: unknown key, wrong type, misspelt name
├── DataError                 a benchmark's files: missing, cut, wrong split, wrong column
├── MediaError                one picture or clip: missing, truncated, too large
├── PromptError               an episode cannot become a prompt: too long, reserved text, too few shots
├── CheckpointError           weights, config or tokenizer of a model
├── ServerError               a server of a model: down, wrong key, unknown model, spending stop
├── ModelError                the model computes no numbers (NaN) for a query
├── PredictionError           a predictions file for `score`
├── RunError                  a run folder: locked, of another spec, cut
├── MetricError               a program that computes a metric failed: Java stopped, gave no number
├── MissingDependency         an extra, Java or NLTK data that has to be installed
└── ExpectationError          exit code 4: a check of `smoke`, an --expect or a --fail-on is not met
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

SHOWN_PROBLEMS = 20


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: where it stands, what it is, how to mend it."""

    what: str
    file: Path | None = None
    line: int | None = None
    key: str = ""
    fix: str = ""

    def __str__(self) -> str:
        place = ", ".join(p for p in (f"line {self.line}" if self.line else "", self.key) if p)
        text = f"{place}: {self.what}" if place else self.what
        return f"{text} {self.fix}".rstrip()


class FlamingoEvalError(Exception):
    """A problem the user can fix. `problems` lists all that were found, each with place and fix."""

    exit_code = 1

    def __init__(self, message: str, problems: Sequence[Problem] = (), fix: str = "") -> None:
        self.problems = tuple(problems)
        lines = [message]
        lines += [f"  {p}" for p in self.problems[:SHOWN_PROBLEMS]]
        if len(self.problems) > SHOWN_PROBLEMS:
            lines.append(f"  ... and {len(self.problems) - SHOWN_PROBLEMS} more")
        if fix:
            lines.append(fix)
        # what was read may hold half a surrogate pair, which no terminal or file takes
        super().__init__("\n".join(lines).encode("utf-8", "backslashreplace").decode())


class UsageError(FlamingoEvalError):
    """The command line contradicts itself or lacks a needed value."""

    exit_code = 2


class ConfigError(FlamingoEvalError):
    """A YAML file is not what its schema says."""


class DataError(FlamingoEvalError):
    """A benchmark's files are missing, cut, of the wrong split or of the wrong shape."""


class MediaError(FlamingoEvalError):
    """A picture or clip cannot be read."""


class PromptError(FlamingoEvalError):
    """An episode cannot become a prompt for this model."""


class CheckpointError(FlamingoEvalError):
    """Weights, configuration or tokenizer of a model do not fit."""


class ModelError(FlamingoEvalError):
    """A model computes no numbers for a query: NaN, or minus infinity for every candidate."""


class ServerError(FlamingoEvalError):
    """A server gives no answers to anything; what is answered is kept and the same command goes on."""


class PredictionError(FlamingoEvalError):
    """A predictions file does not fit the split it answers."""


class RunError(FlamingoEvalError):
    """A run folder cannot be written, resumed or read."""


class MetricError(FlamingoEvalError):
    """A program that computes a metric failed."""


class MissingDependency(FlamingoEvalError):  # noqa: N818 - says what is wrong, not that something is
    """Something optional is needed here and not installed; the message has the one-line install."""


class ExpectationError(FlamingoEvalError):
    """Everything ran, and a check, a bound on a score or a comparison is not met."""

    exit_code = 4


def counted(n: int, noun: str) -> str:
    """`1 problem`, `2 problems`."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def problems_in(file: Path | str, problems: Sequence[Problem], kind: type[FlamingoEvalError]) -> FlamingoEvalError:
    """All problems of one file under its name: `tasks/okvqa.yaml: 2 problems` and a line for each."""
    return kind(f"{file}: {counted(len(problems), 'problem')}", problems)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`Did you mean 'x'?` for the nearest known word, or the empty string. Case, `-` and `_` do not count."""
    names = {_folded(name): name for name in known}
    folded = _folded(word)
    near = difflib.get_close_matches(folded, list(names), n=1, cutoff=0.6)
    longer = [name for name in names if folded and len(folded) > 2 and name.startswith(folded)]
    best = [folded] if folded in names else longer[:1] or near
    return f"Did you mean '{names[best[0]]}'?" if best else ""


def _folded(word: str) -> str:
    return word.casefold().replace("-", "").replace("_", "").replace(" ", "")
