"""The model card of a trained checkpoint: data, recipe, time, limits. Results are added by hand, from measured runs."""

from __future__ import annotations

import json
from pathlib import Path

from flamingo_eval.api import Model
from flamingo_eval.models.config import FlamingoConfig
from flamingo_eval.models.flamingo import parameter_counts
from flamingo_eval.sample.world.scenes import WORLD_VERSION, held_out, seen
from flamingo_eval.training.recipe import Recipe

STAGES = ("contrastive", "language", "flamingo")


def model_card(recipe: Recipe, config: FlamingoConfig, out: Path, frozen: Model | None = None) -> str:
    """README.md of a checkpoint folder. `frozen`: the model whose encoder and decoder it was built on, if any."""
    counts = parameter_counts(config)
    stages = STAGES if frozen is None else STAGES[2:]
    rows = [_stage_row(out / f"{stage}.jsonl", stage) for stage in stages]
    base = [] if frozen is None else [f"- encoder and language model: those of {frozen.name}, sha256 {frozen.sha256}"]
    return "\n".join(
        [
            f"# {recipe.name}",
            "",
            "A Flamingo (Alayrac et al. 2022) trained from scratch by `flamingo-eval train` on the sample world of",
            f"flamingo-eval, version {WORLD_VERSION}: pictures drawn from Noto emoji artwork. Use it to try the",
            "harness and to test it; it knows nothing about real pictures.",
            "",
            f"- parameters: {sum(counts.values()):,} ({', '.join(f'{k} {v:,}' for k, v in counts.items())})",
            f"- data: the training part of the sample world; {len(seen())} objects shown and named, {len(held_out())}",
            "  held out of every stage, pictures and words",
            f"- seed {recipe.seed}; {recipe.threads} CPU threads; matrix products in {recipe.dtype}",
            *base,
            "- weights in float16",
            "- licence: Apache-2.0 (artwork: Noto emoji, Apache-2.0)",
            "",
            "| stage | updates | seconds | last loss |",
            "|---|---|---|---|",
            *rows,
            "",
        ]
    )


def _stage_row(curve: Path, stage: str) -> str:
    last = json.loads(curve.read_text(encoding="utf-8").splitlines()[-1])
    return f"| {stage} | {last['update']} | {last['seconds']:.0f} | {last['loss']:.3f} |"
