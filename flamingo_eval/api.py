"""The Python interface to models: `load_model` and the Model that it returns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from flamingo_eval.backends.choice import choose_model
from flamingo_eval.config.specs import DecodeSpec, RankSpec
from flamingo_eval.engine import Engine, PlainEngine, engine_of, reference
from flamingo_eval.engine.answers import all_scores, best_candidates, in_order
from flamingo_eval.errors import UsageError
from flamingo_eval.models import model_folder
from flamingo_eval.models.loaded import LoadedModel
from flamingo_eval.records import Prompt

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

    from flamingo_eval.backends.hf.model import HFModel


def load_model(
    name_or_dir: str | Path,
    device: str = "cpu",
    dtype: str = "float32",
    model_args: str | Mapping[str, bool | int | float | str] = "",
) -> Model | HFModel:
    """A model by name (`tiny`, the bundled checkpoint), from a checkpoint folder, or `hf:FOLDER` through transformers.

    `device`: cpu, cuda or auto; `dtype`: float32, bfloat16, float16 or auto; `model_args`: as in --model-args.
    Raises CheckpointError, UsageError, MissingDependency.
    """
    choice = choose_model(name_or_dir, model_args)
    if choice.scheme == "hf":
        from flamingo_eval.backends.hf.model import HFModel

        return HFModel(choice, device, dtype)
    if choice.scheme != "bundled":
        raise UsageError(f"load_model({choice}): a model of this kind is for `flamingo-eval run`.")
    return load_flamingo_model(choice.target, device, dtype)


def load_flamingo_model(
    name_or_dir: str | Path, device: str = "cpu", dtype: str = "float32", mesh: DeviceMesh | None = None
) -> Model:
    """A model for the bundled engine. With `mesh`, this rank's part of a model that ranks share.

    Raises CheckpointError, UsageError.
    """
    return Model.load(model_folder(name_or_dir), device, dtype, mesh)


class Model(LoadedModel):
    """Prompts in, text or log-likelihoods out. Make one with `load_model`."""

    @cached_property
    def engine(self) -> Engine | PlainEngine:
        """The engine of `generate`, `score` and `best`; it caches pictures in memory."""
        return engine_of(self)

    def logits(self, prompt: Prompt) -> Tensor:
        """Logits of every position of the prompt, begin token included. -> float32[S, W] on the CPU"""
        return reference.logits(self, prompt)

    def generate(self, prompts: Sequence[Prompt], spec: DecodeSpec | None = None) -> list[str]:
        """The best continuation of each prompt, up to the end of the chunk or the first of `spec.stop`."""
        spec = spec or DecodeSpec()
        answers = dict(self.engine.generate(prompts, spec))
        return [spec.cut(a.text or "") for a in in_order(answers)]

    def score(
        self, prompts: Sequence[Prompt], candidates: Sequence[Sequence[str]], rank: RankSpec | None = None
    ) -> list[list[float]]:
        """Log-likelihood of each candidate as the continuation of its prompt, one list per prompt.

        `rank.permutations` is not used: prompts are scored as they are.
        """
        return all_scores(self.engine, prompts, candidates, rank)

    def best(
        self, prompts: Sequence[Prompt], candidates: Sequence[Sequence[str]], rank: RankSpec | None = None
    ) -> list[tuple[int, float]]:
        """Index and score of each prompt's best candidate; as from `score`, but with less work."""
        return best_candidates(self.engine, prompts, candidates, rank)
