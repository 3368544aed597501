"""The recipe of an encoder, one YAML file."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, TypeAlias

from flamingo_eval.config.load import load_spec
from flamingo_eval.errors import ConfigError, Problem, problems_in
from flamingo_eval.training.bridge.recipe import EpisodesSpec, PairsSpec, RowsSpec, StateSpec
from flamingo_eval.training.recipe import OptimSpec

AnyPairs: TypeAlias = PairsSpec | RowsSpec | EpisodesSpec


@dataclass(frozen=True, slots=True)
class TextSpec:
    """The text tower, a small BERT; it is not part of the written folder."""

    width: int = 256
    layers: int = 4
    heads: int = 4
    context: int = 64  # tokens; longer captions lose their end


@dataclass(frozen=True, slots=True)
class ZeroShotSpec:
    """The evaluation of the encoder during training: query splits of tasks, with class names or references."""

    tasks: tuple[str, ...]
    every: int  # updates
    limit: int = 500
    data: str = "sample"
    templates: tuple[str, ...] = ("{}", "a photo of a {}.")


@dataclass(frozen=True, slots=True)
class ContrastiveRecipe:
    """One run of the stage. Fields from `threads` on change only rounding."""

    stage: Literal["contrastive"]
    name: str
    vision: str  # a folder for `build --vision`: its encoder is trained
    tokenizer: str  # tokenizer.json, or a folder that has one
    data: tuple[AnyPairs, ...]  # pictures and texts of all their batches are compared with each other
    optim: OptimSpec
    fresh: bool = False  # new weights in the encoder's shapes, instead of its own
    width: int = 256  # width of the space that both towers share
    text: TextSpec = field(default_factory=TextSpec)
    label_smoothing: float = 0.1
    seed: int = 0
    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    threads: int = 2
    log_every: int = 10
    state: StateSpec = field(default_factory=StateSpec)
    evaluate: ZeroShotSpec | None = None

    def identity(self) -> str:
        """Everything that decides the weights."""
        return repr(replace(self, threads=0, log_every=1, state=StateSpec(), evaluate=None))


def load_contrastive_recipe(path: Path) -> ContrastiveRecipe:
    """Read a recipe file. Raises ConfigError with every problem in it."""
    recipe = load_spec(path, ContrastiveRecipe)
    problems = []
    names = [data.name for data in recipe.data]
    problems += [
        Problem(f"duplicate name '{n}'.", path, key="data") for n in dict.fromkeys(names) if names.count(n) > 1
    ]
    if sum(data.batch for data in recipe.data) < 2:
        problems.append(
            Problem("all batches together have fewer than two pairs: nothing to compare.", path, key="data")
        )
    for key in ("log_every", "threads", "width"):
        if getattr(recipe, key) < 1:
            problems.append(Problem(f"expected a number from 1, got {getattr(recipe, key)}.", path, key=key))
    if recipe.text.width % recipe.text.heads:
        problems.append(
            Problem(f"{recipe.text.width} is not divisible by {recipe.text.heads} heads.", path, key="text.width")
        )
    if problems:
        raise problems_in(path, problems, ConfigError)
    return recipe
