"""The recipe of a training run: one frozen spec per stage, read from a YAML file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeVar

from flamingo_eval.config.load import YamlTree, load_spec, parse_yaml
from flamingo_eval.errors import ConfigError, Problem, UsageError, did_you_mean, problems_in
from flamingo_eval.models.presets import PRESETS

AtEnd: TypeAlias = Literal["repeat", "stop"]  # what a data set does after its last sample
Incomplete: TypeAlias = Literal["skip", "keep"]  # documents of which a picture is missing or broken; keep: without it
STAGES = ("bridge", "contrastive")  # that a recipe of one stage can be of
RECIPES = Path(__file__).parent / "recipes"


@dataclass(frozen=True, slots=True)
class OptimSpec:
    """AdamW with linear warm-up, then a cosine down to `final` x lr."""

    updates: int
    lr: float
    warmup: int = 50
    final: float = 0.02
    weight_decay: float = 0.02
    clip: float = 1.0
    beta2: float = 0.98


@dataclass(frozen=True, slots=True)
class ContrastiveSpec:
    """Stage 1: vision encoder and text tower (Flamingo v2 B.1.3)."""

    optim: OptimSpec
    batch: int = 128
    views: int = 100  # pictures of each object
    pairs: int = 4000  # pictures of two objects
    invented: int = 0  # pictures of each other look of an object
    names: float = 0.5  # share of the loss that compares each picture with all objects' bare names
    width: int = 128  # width of the shared space
    text_width: int = 128
    shift: int = 4  # largest random shift of a picture, in pixels


@dataclass(frozen=True, slots=True)
class LanguageSpec:
    """Stage 2: the decoder on text, with pictures described in words."""

    optim: OptimSpec
    tokens: int = 3072  # of a batch, about
    chunks: tuple[int, int] = (3, 17)  # shortest and longest episode
    weights: Mapping[str, float] = field(default_factory=dict)  # of the tasks
    invented: int = 0  # scenes of each other look of an object
    clips: float = 0.0  # share of the updates on clips
    plain: tuple[float, float] = (0.9, 0.2)  # share of bind and bound episodes in one-word form, at start and end
    other_tokens: float = 0.1  # weight of tokens that are not part of an answer
    long: float = 0.05  # share of batches with episodes of 33 chunks, in the last fifth


@dataclass(frozen=True, slots=True)
class FlamingoSpec:
    """Stage 3: Resampler and gated blocks, everything else frozen."""

    optim: OptimSpec
    pictures: int = 272  # of a batch, about
    views: int = 48  # pictures of each object
    pairs: int = 4000
    invented: int = 0  # pictures of each other look of an object
    blends: float = 0.0  # share of bind episodes whose objects are blends of two
    paired: float = 0.0  # share of the updates on single pictures with their captions
    clips: float = 0.0  # share of the updates on episodes of clips
    filmed: int = 0  # clips to draw from
    caption_first: float = 0.4  # share of the updates on short episodes with many captions
    first_weights: Mapping[str, float] = field(default_factory=dict)
    weights: Mapping[str, float] = field(default_factory=dict)
    first_chunks: tuple[int, int] = (1, 4)  # shortest and longest episode, in the first part and after it
    chunks: tuple[int, int] = (3, 17)
    long: float = 0.2  # share of batches with episodes of 33 chunks, in the last quarter
    gate: float = 0.0  # initial value of the tanh gates (paper: 0)
    gate_lr: float = 5.0  # learning rate of the gates / that of everything else


@dataclass(frozen=True, slots=True)
class Recipe:
    """One training run, from nothing to a checkpoint folder. `model` is a row of models.presets."""

    name: str
    model: str
    contrastive: ContrastiveSpec
    language: LanguageSpec
    flamingo: FlamingoSpec
    seed: int = 0
    threads: int = 2
    dtype: Literal["bfloat16", "float32"] = "bfloat16"  # of matrix products (autocast); all else is float32
    compile: bool = False  # of stages 2 and 3: small operations fused by torch.compile; needs a C++ compiler

    def smoke(self) -> Recipe:
        """The recipe with a few small updates, to check that everything works and the losses fall."""
        c, lm, f = self.contrastive, self.language, self.flamingo
        return replace(
            self,
            threads=1,
            compile=False,
            contrastive=_small(c, 30, batch=32, views=4, pairs=64, invented=min(c.invented, 1)),
            language=_small(lm, 40, tokens=512, chunks=(3, 6), long=0.0, invented=min(lm.invented, 1)),
            flamingo=_small(
                f,
                40,
                pictures=16,
                views=2,
                pairs=64,
                invented=min(f.invented, 1),
                filmed=min(f.filmed, 20),
                chunks=(3, 6),
                long=0.0,
            ),
        )


Stage = TypeVar("Stage", ContrastiveSpec, LanguageSpec, FlamingoSpec)


def _small(stage: Stage, updates: int, **changes: Any) -> Stage:
    """A stage with few updates and small values of everything else."""
    return replace(stage, optim=replace(stage.optim, updates=updates, warmup=5), **changes)


def load_recipe(name_or_path: str) -> Recipe:
    """A shipped recipe by name, or a file. Raises UsageError and ConfigError."""
    recipe = load_spec(recipe_path(name_or_path), Recipe, bases=RECIPES)
    require_preset(recipe)
    return recipe


def require_preset(recipe: Recipe) -> None:
    """Raise UsageError where a recipe's model is no preset."""
    if recipe.model not in PRESETS:
        hint = did_you_mean(recipe.model, PRESETS)
        raise UsageError(
            f"recipe {recipe.name}: no preset '{recipe.model}'. {hint}".rstrip(), fix=f"Presets: {', '.join(PRESETS)}."
        )


def recipe_path(name_or_path: str) -> Path:
    """The file of a recipe: a path, or the name of a shipped one with or without `.yaml`. Raises UsageError."""
    path = Path(name_or_path)
    if path.suffix not in (".yaml", ".yml"):
        path = RECIPES / f"{name_or_path}.yaml"
    elif not path.is_file() and path.name == name_or_path:
        path = RECIPES / name_or_path
    if not path.is_file():
        names = sorted(p.stem for p in RECIPES.glob("*.yaml"))
        raise UsageError(
            f"no recipe '{name_or_path}'. {did_you_mean(name_or_path, names)}".rstrip(),
            fix=f"Recipes: {', '.join(names)}, or the path of a YAML file.",
        )
    return path


def stage_of(path: Path) -> str:
    """What a recipe file says under `stage`: bridge, contrastive; empty for one of three stages.

    Raises ConfigError, also for another stage.
    """
    pairs = YamlTree(parse_yaml(path)).pairs() or ()
    for key, node, value in pairs:
        if key == "stage":
            stage = value.scalar(str)
            if stage not in STAGES:
                fix = did_you_mean(str(stage), STAGES) or f"Stages: {', '.join(STAGES)}."
                what = f"expected a stage, got {value.shown()}."
                raise problems_in(path, [Problem(what, path, node.line, "stage", fix)], ConfigError)
            return str(stage)
    return ""
