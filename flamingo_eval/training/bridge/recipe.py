"""The recipe of a bridge, one YAML file: the built folder, a mixture of data sets, the optimiser."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, TypeAlias

from flamingo_eval.config.load import load_spec
from flamingo_eval.config.names import find_protocol, find_task
from flamingo_eval.config.settings import require_folders
from flamingo_eval.errors import ConfigError, FlamingoEvalError, Problem, problems_in
from flamingo_eval.training.recipe import AtEnd, Incomplete, OptimSpec
from flamingo_eval.training.streams.shards import shard_paths


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSet:
    """The fields of every data set."""

    name: str
    batch: int  # samples per update, over all ranks
    weight: float = 1.0  # of its loss (lambda_m of Flamingo v2 2.4)
    at_end: AtEnd = "repeat"
    block: int = 1000  # samples that are shuffled together
    broken: float = 0.01  # share of broken samples above which the run stops
    frames: int = 8  # of a clip, at most (v2 B.1.2)
    fps: float = 1.0

    def __post_init__(self) -> None:
        """Raises ValueError."""
        for name in ("batch", "block", "frames"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected a number from 1, got {getattr(self, name)}")
        if self.weight <= 0 or self.fps <= 0:
            raise ValueError("weight and fps: expected numbers above 0")
        if not 0 <= self.broken <= 1:
            raise ValueError(f"broken: expected a share from 0 to 1, got {self.broken:g}")


@dataclass(frozen=True, slots=True, kw_only=True)
class PairsSpec(DataSet):
    """WebDataset tar shards of pictures or clips with captions."""

    kind: Literal["pairs"] = "pairs"
    files: tuple[str, ...]
    caption: str = "caption"  # key of a .json
    stem: str = ""  # text between picture and caption; the paper has none


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentsSpec(DataSet):
    """Interleaved documents: MMC4's JSON lines, OBELICS' Parquet files."""

    kind: Literal["documents"] = "documents"
    files: tuple[str, ...]
    images: str = "."  # folder of the pictures
    incomplete: Incomplete = "skip"
    next_picture: float = 0.5  # probability that text sees the picture after it (v2 A.3.1)


@dataclass(frozen=True, slots=True, kw_only=True)
class RowsSpec(DataSet):
    """Rows of JSON lines, CSV, TSV or Parquet files: pictures or clips with captions or questions."""

    kind: Literal["rows"] = "rows"
    files: tuple[str, ...]
    images: str = ""  # folder of pictures and clips; empty: next to the rows
    columns: Mapping[str, str] = field(default_factory=dict)
    stem: str = ""
    question: str = "Question: {question} Answer:"


@dataclass(frozen=True, slots=True, kw_only=True)
class EpisodesSpec(DataSet):
    """Episodes of the train split of a task."""

    kind: Literal["episodes"] = "episodes"
    task: str
    shots: tuple[int, int] = (0, 4)  # least and largest number of demonstrations
    data: str = "sample"
    protocol: str = "flamingo"
    text_only: float = 0.0  # share of episodes without shots that begin like the paper's zero-shot prompts
    symbols: float = 0.0  # share of episodes with shots in which only the shots tell what an answer is called
    loss: Literal["answers", "text"] = "answers"


# New parts: as built (N(0, 0.02^2)), of unit gain (for narrow models), or with outputs of the stream's size too
Init: TypeAlias = Literal["built", "unit", "stream"]

AnyDataSet: TypeAlias = PairsSpec | DocumentsSpec | RowsSpec | EpisodesSpec


@dataclass(frozen=True, slots=True)
class StateSpec:
    """When the state of a run is written, and which states are kept: the newest ones, and every n-th update's."""

    every_s: float = 120.0
    keep: int = 2
    keep_every: int = 0  # updates; 0: only the newest


@dataclass(frozen=True, slots=True)
class EvaluateSpec:
    """The evaluation of the current weights during training."""

    tasks: tuple[str, ...]
    every: int  # updates
    shots: tuple[int, ...] = (0, 4)
    limit: int | None = 100
    data: str = "sample"
    seed: int = 0
    protocol: str = "flamingo"


@dataclass(frozen=True, slots=True)
class BridgeRecipe:
    """One run of the stage. Fields from `threads` on change only rounding."""

    stage: Literal["bridge"]
    name: str
    model: str  # the folder of `flamingo-eval build`
    data: tuple[AnyDataSet, ...]
    optim: OptimSpec
    seed: int = 0
    dtype: Literal["bfloat16", "float32"] = "bfloat16"  # of matrix products and of the frozen parts
    init: Init = "built"
    mix: Literal["sum", "round-robin"] = "sum"  # gradients of all data sets added before a step, or one after another
    tokens: int = 256  # of a sequence, at most (v2 A.3.1)
    pictures: int = 5  # of a sequence, at most
    packing: bool = False  # several samples in one sequence that do not see each other
    gate_lr: float = 1.0  # learning rate of the gates / that of everything else
    threads: int = 2
    accumulate: int = 1  # number of parts of a rank's batch, computed one after another
    checkpointing: bool = False  # activations are computed again in the backward pass instead of stored
    parallel: Literal["auto", "ddp", "fsdp"] = "auto"  # of several ranks
    log_every: int = 10  # updates
    until: int | None = None  # stop after this update of optim.updates; run again with a higher one, it resumes
    tensorboard: bool = False
    state: StateSpec = field(default_factory=StateSpec)
    evaluate: EvaluateSpec | None = None

    @property
    def last_update(self) -> int:
        """The update that a run ends with."""
        return self.optim.updates if self.until is None else min(self.until, self.optim.updates)

    def identity(self) -> str:
        """Everything that decides the weights: a run resumes only with the same."""
        same = {"threads": 0, "accumulate": 1, "checkpointing": False, "parallel": "auto"}
        other = {"log_every": 1, "until": None, "tensorboard": False, "state": StateSpec(), "evaluate": None}
        return repr(replace(self, **same, **other))  # type: ignore[arg-type]


def load_bridge_recipe(path: Path) -> BridgeRecipe:
    """Read a recipe file. Raises ConfigError with every problem in it."""
    recipe = load_spec(path, BridgeRecipe)
    problems = []
    names = [data.name for data in recipe.data]
    problems += [
        Problem(f"duplicate name '{n}'.", path, key="data") for n in dict.fromkeys(names) if names.count(n) > 1
    ]
    if not names:
        problems.append(Problem("expected at least one data set, got none.", path, key="data"))
    for key in ("tokens", "pictures", "accumulate", "log_every", "threads"):
        if getattr(recipe, key) < 1:
            problems.append(Problem(f"expected a number from 1, got {getattr(recipe, key)}.", path, key=key))
    if recipe.until is not None and recipe.until < 1:
        problems.append(Problem(f"expected a number from 1, got {recipe.until}.", path, key="until"))
    if recipe.evaluate is not None and recipe.evaluate.every < 1:
        problems.append(Problem(f"expected a number from 1, got {recipe.evaluate.every}.", path, key="evaluate.every"))
    if recipe.state.keep < 1:
        problems.append(Problem(f"expected a number from 1, got {recipe.state.keep}.", path, key="state.keep"))
    if problems:
        raise problems_in(path, problems, ConfigError)
    return recipe


def require_inputs(path: Path, data: Sequence[AnyDataSet], folder: Path, named: Mapping[str, str]) -> None:
    """Raise ConfigError that lists every file, folder and task of the recipe `path` that is not there.

    `folder`: where the names in it are looked up; `named`: further files and folders, by the key that names them.
    """
    problems = [
        Problem(f"{folder / name}: there is no such file or folder.", path, key=key)
        for key, name in named.items()
        if not (folder / name).exists()
    ]
    for spec in data:
        for error in _missing(spec, folder):
            texts = [str(p) for p in error.problems] or [str(error).replace("\n", " ")]
            problems += [Problem(text, path, key=f"data {spec.name}") for text in texts]
    if problems:
        raise problems_in(path, problems, ConfigError)


def _missing(spec: AnyDataSet, folder: Path) -> Iterator[FlamingoEvalError]:
    """What is not there of one data set."""
    checks: tuple[Callable[[], object], ...]
    if isinstance(spec, EpisodesSpec):
        checks = (
            lambda: find_task(spec.task),
            lambda: find_protocol(spec.protocol),
            lambda: require_folders(spec.data),
        )
    else:
        checks = (lambda: shard_paths(spec.name, spec.files, folder),)
    for check in checks:
        try:
            check()
        except FlamingoEvalError as error:
            yield error
