"""The user's own class as a model: `--model my_model.py:MyModel`. Its code runs in this process.

It has two methods, which take and return lists of the same length:

- `generate(prompts, spec)`: a text for each `Prompt`; `spec.max_new_tokens` is the longest.
- `score(prompts, candidates, spec)`: a list of numbers for each prompt, one per candidate, higher is better.

Pairs of (index, Answer), as for `evaluate`, are also accepted.

Optional attributes: `name`; `version`, to be changed when its weights change; `default_protocol` ("chat" or
"flamingo"); `context_length` with a method `count_tokens(prompt)`; `batch_size`.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import math
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from flamingo_eval.backends.choice import ModelChoice, args_text
from flamingo_eval.config.own_code import called, load_module
from flamingo_eval.config.specs import DecodeSpec, RankSpec
from flamingo_eval.errors import ModelError, UsageError, did_you_mean
from flamingo_eval.records import Answer, Prompt

METHODS = ("generate", "score")


class ListModel(Protocol):
    """The two methods, with lists in step."""

    def generate(self, prompts: Sequence[Prompt], spec: DecodeSpec) -> Sequence[str]: ...

    def score(
        self, prompts: Sequence[Prompt], candidates: Sequence[Sequence[str]], spec: RankSpec
    ) -> Sequence[Sequence[float]]: ...


UNKNOWN_CONTEXT = 1_000_000_000
BATCH = 8


class OwnShape:
    """The class before it is used: its name, and the hash of its file and options. The object is made when needed."""

    def __init__(self, choice: ModelChoice) -> None:
        """Raises UsageError for a missing file, class or method."""
        self.choice = choice
        file, _, self.class_name = choice.target.rpartition(":")
        self.path = Path(file)
        try:
            self._digest = hashlib.sha256(self.path.read_bytes()).hexdigest()
        except OSError as error:
            raise UsageError(f"--model {choice}: {self.path}: {error.strerror}.") from error
        self.kind = _class_of(load_module(self.path, self._digest, UsageError), self.class_name, choice)

    @property
    def name(self) -> str:
        """Its `name`, or the class's name, and its options."""
        args = args_text(self.choice.args)
        name = str(getattr(self.kind, "name", "")) if isinstance(getattr(self.kind, "name", ""), str) else ""
        return f"{name or self.class_name}[{args}]" if args else name or self.class_name

    @property
    def sha256(self) -> str:
        """Hash of its file, options and `version`; other files that it reads are not included."""
        fields = [self._digest, self.class_name, self.choice.args, str(getattr(self.kind, "version", ""))]
        return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()

    @property
    def default_protocol(self) -> str:
        """Its `default_protocol`, or chat."""
        return str(getattr(self.kind, "default_protocol", "chat"))

    @property
    def context_length(self) -> int:
        """Its `context_length`, if it can count tokens."""
        length = getattr(self.kind, "context_length", 0) if hasattr(self.kind, "count_tokens") else 0
        return length if isinstance(length, int) and length > 0 else UNKNOWN_CONTEXT

    advice = "Lower --shots for these"

    def count_tokens(self, prompt: Prompt) -> int:
        """Number of tokens by its own count, or estimated as four characters per token."""
        count = getattr(self.model, "count_tokens", None) if hasattr(self.kind, "count_tokens") else None
        if count is not None:
            return int(called(lambda: count(prompt), f"{self.class_name}.count_tokens", ModelError))
        return round(sum(len(p) if isinstance(p, str) else 1 for p in prompt.parts) / 4)

    def count_continuation(self, text: str) -> int:
        """Number of tokens, estimated as four characters per token."""
        return max(1, round(len(text) / 4))

    @property
    def model(self) -> Any:
        """The object, made once with the options as keyword arguments. Raises UsageError, ModelError."""
        return _made(self)

    @property
    def record(self) -> dict[str, Any]:
        """Its entries in a run's record."""
        return {
            "backend": "own class",
            "class": f"{self.path.name}:{self.class_name}",
            "args": dict(self.choice.args),
            "file_sha256": self._digest,
            "version": str(getattr(self.kind, "version", "")),
        }


@lru_cache(maxsize=4)
def _made(shape: OwnShape) -> Any:
    try:
        inspect.signature(shape.kind).bind(**shape.choice.args)
    except TypeError as error:
        raise UsageError(f"--model {shape.choice}: {shape.class_name}: {error}.", fix="See --model-args.") from error
    except ValueError:
        pass
    return called(lambda: shape.kind(**shape.choice.args), f"{shape.class_name}()", ModelError)


@lru_cache(maxsize=4)
def own_shape(choice: ModelChoice) -> OwnShape:
    """The shape of a class, loaded once per process."""
    return OwnShape(choice)


def _class_of(module: ModuleType, name: str, choice: ModelChoice) -> Any:
    kind = getattr(module, name, None)
    if kind is None:
        names = [n for n, v in vars(module).items() if inspect.isclass(v)]
        raise UsageError(f"--model {choice}: no class '{name}' in the file. {did_you_mean(name, names)}".rstrip())
    require_methods(kind, name)
    return kind


def require_methods(model: object, name: str) -> None:
    """Raise UsageError if a method is missing."""
    missing = [m for m in METHODS if not callable(getattr(model, m, None))]
    if missing:
        raise UsageError(
            f"{name}: the method {' and '.join(missing)} is missing.",
            fix="A model has generate(prompts, spec) and score(prompts, candidates, spec); see docs/models.md.",
        )


class OwnEngine:
    """Calls an object with the two methods, some prompts at a time, and checks its results."""

    def __init__(self, model: Any, batch_size: int | None = None) -> None:
        """Raises UsageError if a method is missing."""
        self.model, self.what = model, type(model).__name__
        require_methods(model, self.what)
        stated = getattr(model, "batch_size", BATCH)
        self.rows = batch_size or (stated if isinstance(stated, int) and stated > 0 else BATCH)
        self.stats: dict[str, Any] = {}

    def generate(self, prompts: Iterator[Prompt], spec: DecodeSpec) -> Iterator[tuple[int, Answer]]:
        """Texts from the model. Raises ModelError for the model's own exceptions and for answers that are not texts."""
        start = 0
        while batch := list(islice(prompts, self.rows)):
            texts = self._asked("generate", batch, lambda b=batch: self.model.generate(b, spec))  # type: ignore[misc]
            for i, (prompt, text) in enumerate(zip(batch, texts, strict=True)):
                if isinstance(text, Answer):
                    yield start + i, text
                    continue
                if not isinstance(text, str):
                    raise ModelError(f"{self.what}.generate, query {prompt.id}: expected a text, got {text!r:.80}.")
                yield start + i, Answer(0, text=text)
            start += len(batch)

    def score(
        self, prompts: Iterator[Prompt], candidates: Iterator[Sequence[str]], spec: RankSpec
    ) -> Iterator[tuple[int, Answer]]:
        """Scores from the model. Raises ModelError for the model's own exceptions and for wrong numbers of scores."""
        start = 0
        pairs = zip(prompts, candidates, strict=False)
        while batch := list(islice(pairs, self.rows)):
            batch_prompts, names = [p for p, _ in batch], [list(c) for _, c in batch]
            rows = self._asked("score", batch_prompts, lambda a=batch_prompts, n=names: self.model.score(a, n, spec))  # type: ignore[misc]
            for i, (prompt, row, candidate_list) in enumerate(zip(batch_prompts, rows, names, strict=True)):
                answer = (
                    row
                    if isinstance(row, Answer)
                    else Answer(0, scores=self._numbers(row, len(candidate_list), prompt))
                )
                yield start + i, answer
            start += len(batch)

    def _asked(self, method: str, batch: Sequence[Prompt], call: Callable[[], Any]) -> Sequence[Any]:
        what = f"{self.what}.{method}, query {batch[0].id}" + (f" to {batch[-1].id}" if len(batch) > 1 else "")
        answers = called(lambda: list(call()), what, ModelError)
        if len(answers) != len(batch):
            raise ModelError(f"{what}: expected {len(batch)} answers, got {len(answers)}.")
        if all(isinstance(a, tuple) and len(a) == 2 and isinstance(a[1], Answer) for a in answers):
            by_index = dict(answers)  # an engine as for `evaluate`: pairs of index and Answer, in any order
            if sorted(by_index) != list(range(len(batch))):
                raise ModelError(f"{what}: expected an answer for each of {len(batch)} prompts, got {list(by_index)}.")
            return [by_index[i] for i in range(len(batch))]
        return list(answers)

    def _numbers(self, row: Any, n: int, prompt: Prompt) -> tuple[float, ...]:
        try:
            scores = tuple(float(value) for value in row)
        except (TypeError, ValueError) as error:
            raise ModelError(f"{self.what}.score, query {prompt.id}: expected numbers, got {row!r:.80}.") from error
        if len(scores) != n or any(math.isnan(s) for s in scores):
            raise ModelError(f"{self.what}.score, query {prompt.id}: expected {n} numbers, got {row!r:.80}.")
        return scores
