"""Every error that the user can fix is a FlamingoEvalError; any other exception is a bug.

FlamingoEvalError             exit code 1, message without traceback
├── UsageError                exit code 2: the command line contradicts itself
├── ConfigError               a YAML file: unknown key, wrong type, misspelt name
├── DataError                 a benchmark's files: missing, truncated, wrong split, wrong column
├── MediaError                one picture or clip: missing, truncated, too large
├── PromptError               an episode cannot become a prompt: too long, reserved text, too few shots
├── CheckpointError           weights, config or tokenizer of a model
├── ServerError               a server of a model: down, wrong key, unknown model, limit of requests or tokens
├── ModelError                the model's results for a query are NaN
├── PredictionError           a predictions file for `score`
├── RunError                  a run folder: locked, of another spec, truncated
├── MetricError               a program that computes a metric failed: Java stopped, returned no number
├── MissingDependency         an extra, Java or NLTK data that has to be installed
└── ExpectationError          exit code 4: a check of `smoke`, an --expect or a --fail-on failed
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

SHOWN_PROBLEMS = 20


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem: its place, what is wrong, and the fix."""

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
    """A problem the user can fix. `problems` lists all problems, each with place and fix."""

    exit_code = 1

    def __init__(self, message: str, problems: Sequence[Problem] = (), fix: str = "") -> None:
        self.problems = tuple(problems)
        lines = [message]
        lines += [f"  {p}" for p in self.problems[:SHOWN_PROBLEMS]]
        if len(self.problems) > SHOWN_PROBLEMS:
            lines.append(f"  ... and {len(self.problems) - SHOWN_PROBLEMS} more")
        if fix:
            lines.append(fix)
        # the text may contain half a surrogate pair, which cannot be printed or written
        super().__init__("\n".join(lines).encode("utf-8", "backslashreplace").decode())


class UsageError(FlamingoEvalError):
    """The command line contradicts itself, or a required value is missing."""

    exit_code = 2


class ConfigError(FlamingoEvalError):
    """A YAML file does not match its schema."""


class DataError(FlamingoEvalError):
    """A benchmark's files are missing, truncated, of the wrong split or in the wrong format."""


class MediaError(FlamingoEvalError):
    """A picture or clip cannot be read."""


class PromptError(FlamingoEvalError):
    """An episode cannot become a prompt for this model."""


class CheckpointError(FlamingoEvalError):
    """Weights, configuration or tokenizer of a model are invalid or do not match."""


class ModelError(FlamingoEvalError):
    """A model's results for a query are NaN, or minus infinity for every candidate."""


class ServerError(FlamingoEvalError):
    """A server does not answer any request. Finished queries are saved; the same command resumes."""


class PredictionError(FlamingoEvalError):
    """A predictions file is invalid or does not match its split."""


class RunError(FlamingoEvalError):
    """A run folder cannot be written, resumed or read."""


class MetricError(FlamingoEvalError):
    """A program that computes a metric failed."""


class MissingDependency(FlamingoEvalError):  # noqa: N818 - the name says what is wrong
    """An optional package is needed but not installed; the message has the install command."""


class ExpectationError(FlamingoEvalError):
    """Everything ran, but a check, a bound on a score or a comparison failed."""

    exit_code = 4


def counted(n: int, noun: str) -> str:
    """`1 problem`, `2 problems`."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def problems_in(file: Path | str, problems: Sequence[Problem], kind: type[FlamingoEvalError]) -> FlamingoEvalError:
    """An error with all problems of one file: `tasks/okvqa.yaml: 2 problems` and a line for each."""
    return kind(f"{file}: {counted(len(problems), 'problem')}", problems)


def did_you_mean(word: str, known_words: Iterable[str]) -> str:
    """`Did you mean 'x'?` with the nearest known word, or the empty string. Ignores case, `-` and `_`."""
    names = {_folded(name): name for name in known_words}
    folded = _folded(word)
    matches = difflib.get_close_matches(folded, list(names), n=1, cutoff=0.6)
    with_prefix = [name for name in names if folded and len(folded) > 2 and name.startswith(folded)]
    best = [folded] if folded in names else with_prefix[:1] or matches
    return f"Did you mean '{names[best[0]]}'?" if best else ""


def _folded(word: str) -> str:
    return word.casefold().replace("-", "").replace("_", "").replace(" ", "")
