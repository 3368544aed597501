"""The user's choices, one small frozen spec per stage. Only load.py reads them from YAML files.

The metadata of a field states its role in a run's identity (runs/identity.py). Most fields have none: they decide
outputs, so runs that differ in them are different runs in separate rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Literal, Protocol, TypeVar

Modality = Literal["image", "video"]
Mode = Literal["open-ended", "close-ended"]
DemoMethod = Literal["random", "balanced", "rices", "rices-text", "rices-both", "fixed", "file", "official"]
Normalisation = Literal["sum", "mean"]
Wanted = Literal["all", "best", "letter"]
Style = Literal["chat", "interleaved", "one-turn"]
AnswerRule = Literal["", "short-answer", "letter", "tagged-letter"]

PROSE = {"identity": False}  # for readers; decides nothing
PLACE = {"identity": False}  # paths of files; only their contents count
BEFORE = {"identity": False}  # used before a run is planned; the run has its own value
COLUMN = {"row": False}  # names a table's row or column
FAILURES = {"row": False}  # how to treat failed queries; no score depends on it


def folded_into(name: str) -> dict[str, object]:
    """Metadata of a field that a property of RunSpec resolves; the property counts instead of the field."""
    return {"identity": False, "resolved": name}


@dataclass(frozen=True, slots=True)
class DecodeSpec:
    """How open-ended answers are generated (Flamingo v2 A.2: beam search with 3 beams, cut at end of chunk).

    `length_penalty` p ranks finished beams by log-likelihood / (new tokens)^p; 0 compares sums, as OpenFlamingo does.
    An answer ends before the first of `stop`; beams are ranked as they are without it.
    """

    beams: int = 3
    max_new_tokens: int = 10
    length_penalty: float = 0.0
    stop: tuple[str, ...] = field(default=(), metadata={"absent": ()})

    def cut(self, text: str) -> str:
        """The text before the first stop string in it."""
        return text[: min((i for i in map(text.find, self.stop) if i >= 0), default=len(text))]

    def __post_init__(self) -> None:
        if self.beams < 1 or self.max_new_tokens < 1:
            raise ValueError("beams and max_new_tokens must be at least 1")
        if not all(self.stop):
            raise ValueError("a stop string must not be empty")


@dataclass(frozen=True, slots=True)
class RankSpec:
    """How candidates of close-ended tasks are scored. The paper leaves all but the last open (protocol sheet, 14)."""

    normalise: Normalisation = "sum"  # over the candidate's tokens
    end_of_chunk: bool = False  # score the end-of-chunk token after the candidate too
    permutations: int = 1  # average the log-likelihoods over this many orders of the shots (paper: 6)
    # the scores of all candidates; or the best one alone: the same one, found sooner; or the letter that the model
    # writes for one of the choices in the prompt (prompting/letters.py)
    wanted: Wanted = "all"


@dataclass(frozen=True, slots=True)
class DemoSpec:
    """Which demonstrations a query gets. They depend only on (seed, task, query id, method, shots)."""

    method: DemoMethod = field(default="random", metadata=COLUMN)
    shots: int = field(default=4, metadata=COLUMN)
    seed: int = field(default=0, metadata=COLUMN)
    support_size: int = 2048  # drawn once per seed from the support split (Flamingo v2 B.1.4); 0 = the whole split
    support_per_class: int = 0  # classification: this many a class instead of support_size (paper: 32)
    picture_weight: float = 0.5  # rices-both: weight of the picture; the rest is the text
    every: bool = field(default=False, metadata=PROSE)  # each query shows all of its own demonstrations
    # RICES by another model's features than those of the model asked: its name and the beginning of its hash
    features: str = field(default="", metadata={"absent": ""})
    given: str = ""  # for fixed demonstrations: the hash of their file, or the numbers of shots of the official draws


@dataclass(frozen=True, slots=True)
class MetricSpec:
    """A row of metrics.METRICS and its dialect, for metrics with several (`official` if empty).

    Or `FILE.py:FUNCTION`, the user's own metric (metrics/own.py).
    """

    name: str
    dialect: str = ""
    code: str = field(default="", metadata={"absent": ""})  # the user's own metric: the sha256 of its file


@dataclass(frozen=True, slots=True)
class HubSpec:
    """A mirror on the Hugging Face Hub, which `--data hub` reads instead of the official files.

    `splits` maps a split's name here to its name there; other splits do not exist then. `columns` are the column names
    for the layout `rows`.
    """

    dataset: tuple[str, ...]  # ids, tried in order (renamed mirrors); a local folder of Parquet files works as well
    splits: Mapping[str, str]
    columns: Mapping[str, str]
    config: str = ""
    revision: str = ""
    notes: str = field(default="", metadata=PROSE)


@dataclass(frozen=True, slots=True)
class DataSpec:
    """The files of a benchmark, below the data root.

    `layout` is a row of datasets.LAYOUTS. `splits` maps a split's name to the files it needs, by role; a role may
    list several names (renamed releases), of which the first that exists is read. Paths are relative to the root.
    """

    layout: str
    splits: Mapping[str, Mapping[str, tuple[str, ...]]] = field(metadata=PLACE)  # its words count: runs/identity.py
    query: str = field(metadata=BEFORE)
    support: str | None = "train"  # None: the benchmark has no split to draw shots from (RareAct)
    source: str = field(default="", metadata=PROSE)  # where to download the files
    options: Mapping[str, str] = field(default_factory=dict)  # further options of the layout's loader
    counts: Mapping[str, int] = field(default_factory=dict, metadata=PROSE)  # official rows of each split, for `check`
    hub: HubSpec | None = field(default=None, metadata=PLACE)  # counts where it is read


@dataclass(frozen=True, slots=True)
class TaskSpec:
    """One benchmark: tasks/<name>.yaml."""

    name: str
    title: str = field(metadata=PROSE)
    modality: Modality
    mode: Mode
    prompt: tuple[str, ...] = field(metadata=BEFORE)  # the first that the protocol's folder has, without .yaml
    data: DataSpec
    metrics: tuple[MetricSpec, ...]  # the first is the headline
    decode: DecodeSpec = field(default_factory=DecodeSpec, metadata=folded_into("decode"))
    rank: RankSpec = field(default_factory=RankSpec, metadata=folded_into("rank"))
    support_size: int = field(default=2048, metadata=BEFORE)
    support_per_class: int = field(default=0, metadata=BEFORE)
    max_shots: int | None = field(default=None, metadata=BEFORE)  # RareAct: 0
    # the benchmark's own protocol, used if the user names none: by the protocol that the model is usually asked
    # in, or by that one's style
    protocols: Mapping[str, str] = field(default_factory=dict, metadata=BEFORE)
    notes: str = field(default="", metadata=PROSE)


@dataclass(frozen=True, slots=True)
class CleanSpec:
    """How a protocol cleans generated text before scoring, in this order.

    `rule` names a rule that extracts the answer from a chat model's text (prompting/answer_rules.py); it comes first.
    """

    rule: AnswerRule = ""
    cut_at: tuple[str, ...] = ()  # keep the text before the first of these
    cut_at_after: tuple[str, ...] = ()  # then before the first of these (OpenFlamingo: ", ")
    delete: tuple[str, ...] = ()
    strip: bool = True
    stem_okvqa: bool = False  # stem the words as OpenFlamingo does for OK-VQA (prompting/okvqa_stem.py)


@dataclass(frozen=True, slots=True)
class DecodeOverride:
    """A protocol's changes of the task's DecodeSpec; None: unchanged."""

    beams: int | None = None
    max_new_tokens: int | None = None
    length_penalty: float | None = None
    stop: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class RankOverride:
    """A protocol's changes of the task's RankSpec; None: unchanged."""

    normalise: Normalisation | None = None
    end_of_chunk: bool | None = None
    permutations: int | None = None
    wanted: Wanted | None = None


@dataclass(frozen=True, slots=True)
class PromptSpec:
    """The prompt of a task: prompts/<protocol>/<name>.yaml; the templates are Jinja (sandboxed).

    Templates see the example's fields, `answer` (demonstrations), and the marks `image` and `end_of_chunk`.
    `candidate` is appended to the query when a candidate is scored. With `rank: {wanted: letter}` they see `choices`,
    the candidates with a letter each, and demonstrations `letter`, that of their answer.

    `prefix` is a template of `{{ instruction }}` alone: one of `instructions` by name, that of the protocol's variant,
    `default` without one. In a protocol of chat style `prefix` is the system text, `demonstration` and `query`, which
    may show the instruction too, are what the user says, and `answer` what the assistant says to a demonstration.
    """

    name: str
    demonstration: str
    query: str
    prefix: str = ""
    answer: str = "{{ answer }}"
    instructions: Mapping[str, str] = field(default_factory=dict)
    candidate: str = "{{ candidate }}"
    # demonstrations without pictures at zero shots (Flamingo v2 A.2)
    text_only_shots: int = field(default=0, metadata=folded_into("text_only_shots"))
    clean: CleanSpec = field(default_factory=CleanSpec)
    decode: DecodeOverride = field(default_factory=DecodeOverride, metadata=folded_into("decode"))
    rank: RankOverride = field(default_factory=RankOverride, metadata=folded_into("rank"))
    metric_dialect: str = ""
    notes: str = field(default="", metadata=PROSE)


@dataclass(frozen=True, slots=True)
class ProtocolSpec:
    """prompts/<protocol>/protocol.yaml: the marks in shown prompts, and the style.

    `style`: one text with picture tags, the same as one user turn of a conversation, or a turn for each side of every
    demonstration. `after_image` is text that follows every picture, in both of the first. `variants` names the wordings
    of the instruction, with where each comes from; `--protocol NAME:VARIANT` takes one.
    """

    name: str
    title: str = field(metadata=PROSE)
    style: Style = "interleaved"
    variants: Mapping[str, str] = field(default_factory=dict, metadata=BEFORE)
    begin: str = ""  # at the start of every prompt
    image: str = "<image>"
    end_of_chunk: str = "<EOC>"
    after_image: str = ""
    notes: str = field(default="", metadata=PROSE)


OnError = Literal["stop", "skip"]


@dataclass(frozen=True, slots=True)
class ModelIdentity:
    """The identity of the model in a record; known before its weights are loaded."""

    name: str
    sha256: str
    device: str
    dtype: str


class Asked(Protocol):
    """The settings of a run without the model; both RunSpec and PlannedRun have them."""

    @property
    def task(self) -> TaskSpec: ...

    @property
    def protocol(self) -> ProtocolSpec: ...

    @property
    def prompt(self) -> PromptSpec: ...

    @property
    def demos(self) -> DemoSpec: ...

    @property
    def limit(self) -> int | None: ...

    @property
    def ablation(self) -> str: ...

    @property
    def rank(self) -> RankSpec: ...

    @property
    def text_only_shots(self) -> int: ...

    @property
    def generates(self) -> bool: ...


class TaskAndPrompt(Protocol):
    """A task and how it is asked."""

    @property
    def task(self) -> TaskSpec: ...

    @property
    def prompt(self) -> PromptSpec: ...


class Resolved:
    """What follows from a task and its prompt, in the specs of runs and in runs that are only planned."""

    __slots__ = ()

    @property
    def decode(self: TaskAndPrompt) -> DecodeSpec:
        """The task's decoding with the protocol's changes."""
        return _overridden(self.task.decode, self.prompt.decode)

    @property
    def rank(self: TaskAndPrompt) -> RankSpec:
        """The task's candidate scoring with the protocol's changes."""
        return _overridden(self.task.rank, self.prompt.rank)

    @property
    def text_only_shots(self: TaskAndPrompt) -> int:
        """Number of demonstrations without pictures at zero shots; 0 if the task has no support split."""
        return self.prompt.text_only_shots if self.task.data.support is not None else 0

    @property
    def generates(self: TaskAndPrompt) -> bool:
        """Whether answers are generated text: for open-ended tasks, and for letters of choices."""
        return self.task.mode == "open-ended" or _overridden(self.task.rank, self.prompt.rank).wanted == "letter"


@dataclass(frozen=True, slots=True)
class RunSpec(Resolved):
    """Everything that decides the outputs and scores of one run; its hash is part of the run folder's name.

    It includes device, dtype and model identity, but not batch size, workers and caches, which do not change outputs.
    """

    task: TaskSpec
    protocol: ProtocolSpec
    prompt: PromptSpec
    demos: DemoSpec
    model: str = field(metadata=COLUMN)  # its name in tables
    model_sha256: str = field(metadata=PLACE)  # an input
    data: str = field(metadata=PLACE)  # `sample`, or the name of the data root
    split: str = field(metadata=COLUMN)
    device: str = "cpu"
    dtype: str = "float32"
    limit: int | None = None
    ablation: str = field(default="", metadata=COLUMN)
    on_error: OnError = field(default="stop", metadata=FAILURES)

    @property
    def task_label(self) -> str:
        """`vqav2`, or `vqav2@sample`, so that sample scores are not taken for the benchmark's."""
        return task_label(self.task, self.data)


def task_label(task: TaskSpec, data: str) -> str:
    """`vqav2`, or `vqav2@sample` for the embedded sample and `vqav2@sample:7` for a fresh copy."""
    return f"{task.name}@{data}" if data.partition(":")[0] == "sample" else task.name


_Spec = TypeVar("_Spec", DecodeSpec, RankSpec)


def _overridden(spec: _Spec, changes: DecodeOverride | RankOverride) -> _Spec:
    overrides = {f.name: getattr(changes, f.name) for f in fields(changes)}
    return replace(spec, **{name: value for name, value in overrides.items() if value is not None})
