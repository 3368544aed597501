"""The frozen records that flow between the stages: Example, Episode, Prompt, Output, Score.

Each stage adds information and none reaches back (see runs/runner.py for the whole flow).
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from flamingo_eval.errors import FlamingoEvalError

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

# --------------------------------------------------------------------------------------------------------- media


@dataclass(frozen=True, slots=True)
class Image:
    """A picture on disk, decoded when a model needs it (data/images.py): a file, or one cell of a table of pictures."""

    path: Path
    column: str = ""  # of a Parquet or Arrow file at `path`; empty: `path` is the picture
    row: int = 0

    def __init__(self, path: str | os.PathLike[str], column: str = "", row: int = 0) -> None:
        object.__setattr__(self, "path", Path(path))
        object.__setattr__(self, "column", column)
        object.__setattr__(self, "row", row)


@dataclass(frozen=True, slots=True)
class Video:
    """A clip on disk; `start` and `end`, in seconds, select a segment of a longer file (None: the whole file).

    With `maybe_cut`, a file about as long as the segment is the segment itself (downloads of iVQA).
    """

    path: Path
    start: float | None = None
    end: float | None = None
    maybe_cut: bool = False

    def __init__(
        self,
        path: str | os.PathLike[str],
        start: float | None = None,
        end: float | None = None,
        maybe_cut: bool = False,
    ) -> None:
        object.__setattr__(self, "path", Path(path))
        object.__setattr__(self, "start", start)
        object.__setattr__(self, "end", end)
        object.__setattr__(self, "maybe_cut", maybe_cut)


@dataclass(frozen=True, slots=True, eq=False)
class Pixels:
    """Preprocessed pixels, for parity with other implementations: float[3, H, W], or [T, 3, H, W] for a video."""

    tensor: Tensor


Media: TypeAlias = Image | Video


class EndOfChunk:
    """Marks the end of a demonstration; every model writes its own token for it. One instance: END_OF_CHUNK."""

    def __repr__(self) -> str:
        return "END_OF_CHUNK"


END_OF_CHUNK = EndOfChunk()

Part: TypeAlias = str | Image | Video | Pixels | EndOfChunk

Role: TypeAlias = Literal["system", "user", "assistant"]
ROLES: tuple[Role, ...] = ("system", "user", "assistant")


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of a conversation: text and media, interleaved."""

    role: Role
    parts: tuple[Part, ...]

    def __init__(self, role: Role, parts: Sequence[Part] | str) -> None:
        """`parts` may be one text. Raises ValueError for an unknown role or an invalid part."""
        if role not in ROLES:
            raise ValueError(f"role {role!r}: expected one of {', '.join(ROLES)}")
        parts = (parts,) if isinstance(parts, str) else tuple(parts)
        invalid_part = next(
            (p for p in parts if isinstance(p, EndOfChunk) or not isinstance(p, str | Image | Video | Pixels)), None
        )
        if invalid_part is not None:
            raise ValueError(f"a turn: expected text, pictures and clips, got {invalid_part!r}")
        object.__setattr__(self, "role", role)
        object.__setattr__(self, "parts", parts)


# ------------------------------------------------------------------------------------------------- examples, episodes


IN_WORDS = "in_words"  # label: the text that replaces a row's pictures; field: the same, shown in their place


@dataclass(frozen=True, slots=True)
class Example:
    """One row of a benchmark.

    `fields` are for prompt templates (question, text, rounds, ...); `answer` is the row's answer as a demonstration;
    `references` and `labels` are for metrics and never part of a prompt.
    """

    id: str
    media: tuple[Media, ...]
    media_id: str  # rows of one picture or clip share it: a query's own picture is never among its shots
    fields: Mapping[str, object] = field(default_factory=dict)
    answer: str = ""
    references: tuple[str, ...] = ()
    candidates: tuple[str, ...] = ()  # close-ended: this row's own candidates; empty means the split's
    target: int | None = None  # close-ended: index of the right candidate
    labels: Mapping[str, object] = field(default_factory=dict)  # answer_type, question_type, relevance, weight, ...


@dataclass(frozen=True, slots=True)
class Split:
    """The examples of one split, in file order, and the files they were read from."""

    name: str
    examples: tuple[Example, ...]
    files: tuple[Path, ...]  # annotation files, hashed into the run record
    candidates: tuple[str, ...] = ()  # close-ended with one list for all rows (class names)
    labelled: bool = True  # False: the answers are not public, and only a submission can be written


@dataclass(frozen=True, slots=True)
class Episode:
    """A query and its demonstrations, in the order in which the prompt shows them (nearest to the query last)."""

    query: Example
    shots: tuple[Example, ...]
    text_only: bool = False  # zero shots in Flamingo's sense: demonstrations without their pictures


@dataclass(frozen=True, slots=True)
class Prompt:
    """Text, media and end-of-chunk marks, interleaved; or the turns of a conversation, for models with a chat template.

    `parts` has the parts in reading order, of all turns if there are turns. `id` is the query's, for error messages.
    `common_prefix`: whether other prompts have the same prefix (the same demonstrations), which is then read once.
    None: the engine compares neighbouring prompts.
    """

    parts: tuple[Part, ...]
    id: str = ""
    common_prefix: bool | None = None
    turns: tuple[Turn, ...] = ()

    def __init__(
        self,
        parts: Sequence[Part | Turn],
        id: str = "",
        common_prefix: bool | None = None,
        turns: Sequence[Turn] = (),
    ) -> None:
        """`parts` are either parts or turns. Raises ValueError if both are mixed."""
        all_turns = tuple(p for p in parts if isinstance(p, Turn)) or tuple(turns)
        plain_parts = tuple(p for p in parts if not isinstance(p, Turn))
        if len(plain_parts) < len(parts) and plain_parts:
            raise ValueError("a prompt: expected parts or turns, got both; put the parts into a turn")
        object.__setattr__(self, "parts", tuple(p for t in all_turns for p in t.parts) if all_turns else plain_parts)
        object.__setattr__(self, "id", id)
        object.__setattr__(self, "common_prefix", common_prefix)
        object.__setattr__(self, "turns", all_turns)

    @property
    def media(self) -> tuple[Image | Video | Pixels, ...]:
        """The pictures and clips in reading order."""
        return tuple(p for p in self.parts if isinstance(p, (Image, Video, Pixels)))


# ----------------------------------------------------------------------------------------------------- outputs, scores


@dataclass(frozen=True, slots=True)
class Best:
    """The best of a query's candidates, by index, and its score, if the others' scores were not computed."""

    candidate: int
    score: float


SCORE_DECIMALS = 6  # of candidate scores: further digits depend on how a batch was cut


def best_of(scores: Sequence[float]) -> int:
    """Index of the best candidate; ties go to the first, and NaN is never the best."""
    return max(range(len(scores)), key=lambda i: (-math.inf if math.isnan(scores[i]) else scores[i], -i))


@dataclass(frozen=True, slots=True)
class Answer:
    """An engine's answer to one prompt: text, candidate scores or the best candidate; and the prompt's tokens."""

    tokens: int
    text: str | None = None
    scores: tuple[float, ...] | None = None
    best: Best | None = None
    error: FlamingoEvalError | None = None
    thought: str = ""  # a thinking model's text before its answer; never part of `text`


@dataclass(frozen=True, slots=True)
class Prediction:
    """What is scored for one query: generated text (cleaned), or one number a candidate, higher is better.

    Not an Output: predictions of other programs are scored too, and no tokens or raw text are known of them.

    `best` replaces `scores` if only the best candidate was asked for. Of lettered choices `text` is
    the letter and `best` its choice; without a letter there is no `best`, and the answer counts as wrong.
    """

    id: str
    text: str | None = None
    scores: tuple[float, ...] | None = None
    best: Best | None = None

    @classmethod
    def of(cls, output: Output) -> Prediction:
        """The prediction in an output."""
        return cls(output.id, output.prediction, output.scores, output.best)

    @property
    def chosen(self) -> int | None:
        """Index of the best candidate."""
        return self.best.candidate if self.best is not None else best_of(self.scores) if self.scores else None


@dataclass(frozen=True, slots=True)
class Copying:
    """How an answer relates to the answers that its query's shots show (metrics/copying.py says how they are compared).

    Scores are the headline metric's own values of the query; None if the metric has no value per query.
    """

    any: bool = False  # the answer is one of the shots'
    majority: bool = False  # it is their most frequent one
    last: bool = False  # it is the answer of the shot next to the query
    covered: bool | None = None  # one of the shots' answers is right; None: the answers of the split are not public
    right: bool | None = None  # the answer is a right one
    majority_score: float | None = None  # of always saying the shots' most frequent answer
    last_score: float | None = None  # of always saying the last shot's


@dataclass(frozen=True, slots=True)
class Output:
    """One line of outputs.jsonl: the shots, the answer and the score of one query."""

    id: str
    shots: tuple[str, ...]
    tokens: int
    raw: str | None = None  # raw generated text
    prediction: str | None = None  # the text after the protocol's cleaning
    scores: tuple[float, ...] | None = None
    best: Best | None = None  # instead of `scores`, if only the best candidate was computed
    score: float | None = None  # per-example value of the headline metric, if it has one
    error: str = ""  # why the query failed; such queries are counted, never scored
    media: str = ""  # the query's picture or clip: its queries are drawn together where runs are compared
    copying: Copying | None = None  # None: no shots were shown


@dataclass(frozen=True, slots=True)
class MetricResult:
    """The result of a metric over a set of queries, on the 0-100 scale of published tables (CIDEr x 100).

    `per_example` is aligned with the predictions (None for a row without its own value). `resample(indices)` is the
    metric's value over a bootstrap sample (int[n] row indices, with repetition), None if undefined there. If `resample`
    is None, that value is the mean of `per_example` over the sampled rows.
    """

    value: float | None
    per_example: tuple[float | None, ...]
    breakdown: Mapping[str, float | None] = field(default_factory=dict)
    why_undefined: str = ""
    resample: Callable[[np.ndarray], float | None] | None = None
    notes: Mapping[str, str] = field(default_factory=dict)  # dialect, tokenizer, versions that the number depends on


@dataclass(frozen=True, slots=True)
class Score:
    """A score with its number of queries and its interval."""

    metric: str
    value: float | None
    n: int
    n_failed: int = 0
    ci95: tuple[float, float] | None = None  # bootstrap over pictures, seeded from the run
    why_undefined: str = ""
    unscored: bool = False  # undefined only because a package is not installed; once it is, the run is scored
    breakdown: Mapping[str, float | None] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)
    draws: tuple[float | None, ...] = ()  # bootstrap values; two runs over the same pictures have aligned draws
