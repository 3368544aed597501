"""Prompts in, answers out, through transformers: reads the weights and runs the self-check."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from flamingo_eval.backends.choice import ModelChoice
from flamingo_eval.backends.hf.engine import HFEngine
from flamingo_eval.backends.hf.network import Network
from flamingo_eval.backends.hf.processor import install, missing_package
from flamingo_eval.backends.hf.reader import TokenIds
from flamingo_eval.backends.hf.shape import AS_TURN, HFShape, hf_shape
from flamingo_eval.backends.hf.vision import Pictures
from flamingo_eval.config.settings import cache_bytes, cache_dir
from flamingo_eval.config.specs import DecodeSpec, RankSpec
from flamingo_eval.engine.answers import all_scores, best_candidates, in_order
from flamingo_eval.engine.vision_cache import VisionCache
from flamingo_eval.errors import CheckpointError, MissingDependency
from flamingo_eval.models.loaded import choose_device, choose_dtype
from flamingo_eval.records import Prompt

log = logging.getLogger(__name__)


class HFModel:
    """Prompts in, text or log-likelihoods out, through transformers. Make one with `load_model("hf:FOLDER")`."""

    def __init__(
        self,
        choice: ModelChoice,
        device: str = "cpu",
        dtype: str = "float32",
        batch_size: int | None = None,
        keep: bool = False,
    ) -> None:
        """`keep`: store features of pictures also on disk, for later runs.

        Raises CheckpointError, MissingDependency, UsageError.
        """
        self.shape = hf_shape(choice)
        target = choose_device(device)
        kind = choose_dtype(dtype, target)
        self.network = Network(_weights(self.shape, target, kind))
        store = None
        if keep:
            namespace = f"hf, one tensor a picture {self.shape.sha256} {kind} {target.type} {_attention(self.network)}"
            store = VisionCache(namespace, cache_dir() / "vision", disk_bytes=cache_bytes())
        self.pictures = Pictures(self.shape.reader, self.network, self.shape.family, self.shape.opened, store)
        stop = _stop_ids(self.network.model, self.shape.processor.tokenizer)
        self.engine = HFEngine(self.network, self.pictures, self.shape.context_length, stop, batch_size)
        self.engine.candidate_turns = self.shape.options["candidates"] == AS_TURN
        self.notices = _check_fast_ways(self.engine)

    @property
    def name(self) -> str:
        """Its name in tables."""
        return self.shape.name

    @property
    def sha256(self) -> str:
        """Hash of files and options."""
        return self.shape.sha256

    @property
    def device(self) -> torch.device:
        """Device of its inputs."""
        return self.network.device

    @property
    def dtype(self) -> torch.dtype:
        """Number format of its weights."""
        return self.network.dtype

    @property
    def context_length(self) -> int:
        """Context length in tokens."""
        return self.shape.context_length

    @property
    def record(self) -> dict[str, Any]:
        """Its entries in a run's record, with the results of the self-check."""
        ways = {
            "features_kept": self.engine.fast,
            "candidate_tree": self.engine.tree,
            "shared_prefix": self.engine.prefiller.shares_prefixes,
            **({"clip_features_kept": self.engine.clip_features} if self.shape.reader.clips_as_video else {}),
            "notices": self.notices,
        }
        return {**self.shape.record, "attention": _attention(self.network), **ways}

    def encode(self, prompt: Prompt) -> TokenIds:
        """Token ids of a prompt, those of its pictures included. Raises PromptError, MediaError."""
        return TokenIds(self.engine.read(prompt).ids.tolist())

    def count_tokens(self, prompt: Prompt) -> int:
        """Tokens of a prompt."""
        return len(self.encode(prompt))

    def generate(self, prompts: Sequence[Prompt], spec: DecodeSpec | None = None) -> list[str]:
        """The best continuation of each prompt, up to the end of the turn."""
        answers = dict(self.engine.generate(prompts, spec or DecodeSpec()))
        return [a.text or "" for a in in_order(answers)]

    def score(
        self, prompts: Sequence[Prompt], candidates: Sequence[Sequence[str]], rank: RankSpec | None = None
    ) -> list[list[float]]:
        """Log-likelihood of each candidate, appended exactly as given, one list per prompt."""
        return all_scores(self.engine, prompts, candidates, rank)

    def best(
        self, prompts: Sequence[Prompt], candidates: Sequence[Sequence[str]], rank: RankSpec | None = None
    ) -> list[tuple[int, float]]:
        """Index and score of each prompt's best candidate."""
        return best_candidates(self.engine, prompts, candidates, rank)


def _attention(network: Network) -> str:
    return str(network.model.config.get_text_config()._attn_implementation)


def _weights(shape: HFShape, device: torch.device, dtype: torch.dtype) -> Any:
    """The model of the folder's own class, in evaluation mode. Raises CheckpointError, MissingDependency."""
    from transformers import AutoModelForImageTextToText
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    options: dict[str, Any] = {
        "dtype": dtype, "local_files_only": True, "trust_remote_code": False, "use_safetensors": True
    }  # fmt: skip
    if shape.options["attn_implementation"]:
        options["attn_implementation"] = shape.options["attn_implementation"]
    if shape.options["device_map"]:
        options["device_map"] = shape.options["device_map"]
    path: Path = shape.folder.path
    try:
        model = AutoModelForImageTextToText.from_pretrained(path, **options)
        return (model if shape.options["device_map"] else model.to(device)).eval()
    except ImportError as error:
        package = missing_package(error)
        raise MissingDependency(f"{path}: {shape.folder.model_type} needs {package}.", fix=install(package)) from error
    except (OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise CheckpointError(
                f"{path}: the weights do not fit on {device}.",
                fix="Use --model-args device_map=auto, or another dtype.",
            ) from error
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CheckpointError(f"{path}: the weights cannot be loaded: {first}") from error


def _stop_ids(model: Any, tokenizer: Any) -> tuple[int, ...]:
    """The ids that end a turn: the generation configuration's, and the tokenizer's own end."""
    ids: set[int] = set()
    for value in (getattr(model.generation_config, "eos_token_id", None), tokenizer.eos_token_id):
        ids |= set(value) if isinstance(value, (list, tuple)) else {value} if value is not None else set()
    return tuple(sorted(int(i) for i in ids))


@torch.inference_mode()
def _check_fast_ways(engine: HFEngine) -> list[str]:
    """Answer one prompt both ways; if they differ, plain inference is used from then on and the record says so.

    Raises CheckpointError for a family that cannot be asked prompts with several pictures at all.
    """
    from flamingo_eval.backends.hf.check import (
        PROMPTS,
        asked_for_token_kinds,
        cache_difference,
        difference,
        pieces_difference,
        prefix_difference,
        rows_difference,
        tree_difference,
        why_unusable,
    )

    family = engine.network.model.config.model_type
    why = why_unusable(engine, PROMPTS)
    if why and asked_for_token_kinds(engine):
        why = why_unusable(engine, PROMPTS)
    if why:
        raise CheckpointError(
            f"{family}: demonstrations cannot be shown to this model: {why}.",
            fix="Use a model that takes several pictures in a prompt: see docs/models.md.",
        )
    limit, prefiller = engine.tolerance, engine.prefiller
    notices = []
    if not cache_difference(engine) <= limit:
        engine.own = True
    elif not engine.fast:
        notices.append("this family reads one prompt at a time, as its own code does")
    elif not difference(engine) <= limit:
        engine.fast = engine.tree = prefiller.shares_prefixes = prefiller.packs = prefiller.in_pieces = False
        notices.append("this family does not accept picture features: one prompt at a time, no cache")
    elif engine.tree and not tree_difference(engine) <= limit:
        engine.tree = prefiller.packs = prefiller.in_pieces = False
        notices.append("this family cannot rank a tree of candidates: each one continues a copy of the cache")
    if engine.own or not (engine.tree or rows_difference(engine) <= limit):
        engine.own = True
        engine.fast = engine.tree = prefiller.shares_prefixes = prefiller.packs = prefiller.in_pieces = False
        notices = ["this family's cache has rules of its own: its `generate`, and one pass a candidate"]
    if engine.reader.clips_as_video:
        notices += _check_clips(engine)
    if prefiller.in_pieces and not pieces_difference(engine) <= limit:
        prefiller.in_pieces = False  # long prompts are read whole then
    if prefiller.packs and not prefix_difference(engine) <= limit:
        prefiller.packs = False  # a copy of the prefix's cache for each prompt then
    if prefiller.shares_prefixes and not prefiller.packs and not prefix_difference(engine) <= limit:
        prefiller.shares_prefixes = False
        notices.append("this family has no prefix cache: every prompt is read in full")
    for notice in notices:
        log.warning("%s: %s", family, notice)
    return notices


def _check_clips(engine: HFEngine) -> list[str]:
    """The same for clips that are shown as videos. Those that cannot be shown are no problem before one is asked."""
    from flamingo_eval.backends.hf.check import (
        CLIP_PROMPTS,
        CLIPS,
        SHORTER_CLIP,
        cache_difference,
        difference,
        why_unusable,
    )

    engine.no_clips = why_unusable(engine, CLIP_PROMPTS)
    if engine.no_clips:
        return [f"clips cannot be shown to this model as videos: {engine.no_clips}"]
    limit = engine.tolerance
    engine.own_clips = engine.own or not cache_difference(engine, CLIPS) <= limit
    engine.clip_features = engine.fast and not engine.own_clips and difference(engine, CLIPS, SHORTER_CLIP) <= limit
    if engine.clip_features:
        return []
    return ["this family does not accept features of clips: prompts with clips are read one at a time"]
