"""Trains one recipe: contrastive stage, language stage, Flamingo stage, export. An interrupted run resumes.

The first two stages may be replaced by another checkpoint, as the paper starts from an existing encoder and decoder.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import track
from torch import nn

from flamingo_eval.api import Model
from flamingo_eval.errors import CheckpointError
from flamingo_eval.files import write_atomically
from flamingo_eval.models.checkpoint import save_flamingo
from flamingo_eval.models.config import FlamingoConfig, NFNetConfig
from flamingo_eval.models.convert.writer import new_folder
from flamingo_eval.models.flamingo import Flamingo
from flamingo_eval.models.presets import PRESETS
from flamingo_eval.training.batches import Collator
from flamingo_eval.training.card import model_card
from flamingo_eval.training.concept_pools import ScenePool, training_clips, training_pool
from flamingo_eval.training.contrastive_stage import new_towers, train_contrastive
from flamingo_eval.training.flamingo_stage import EncodedPool, new_blocks, train_flamingo
from flamingo_eval.training.language_stage import new_decoder, repeats_by_task, train_language
from flamingo_eval.training.loop import Place, finished
from flamingo_eval.training.pixels import encoded, filmed, rendered
from flamingo_eval.training.recipe import Recipe, require_preset
from flamingo_eval.training.vocabulary import make_tokenizer

CONTEXT = 1024
TEXT_VIEWS, TEXT_PAIRS = 16, 4000  # scenes described in words need no pictures
DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}


def train_recipe(recipe: Recipe, out: Path, device: str, console: Console, frozen: Model | None = None) -> Path:
    """Train all stages and write the checkpoint folder out/checkpoint. States and curves are in `out`.

    With `frozen`, only the third stage, between the encoder and the decoder of that model.
    Raises UsageError for an unknown preset; CheckpointError if `out` contains another run, or if `frozen` does
    not have the recipe's shapes and vocabulary.
    """
    config = recipe_config(recipe)
    collate = Collator(make_tokenizer())
    if frozen is not None:
        _check_frozen(frozen, config, collate)
    torch.set_num_threads(recipe.threads)
    out.mkdir(parents=True, exist_ok=True)
    _check_folder(recipe, frozen, out)
    place = Place(out, torch.device(device), DTYPES[recipe.dtype], console, recipe.compile)
    flamingo = Flamingo(config)
    vision = _train_vision(recipe, config, collate, place) if frozen is None else frozen.flamingo.vision
    decoder = _train_decoder(recipe, config, collate, place) if frozen is None else frozen.flamingo.decoder
    flamingo.vision.load_state_dict(vision.state_dict())
    flamingo.decoder.load_state_dict(decoder.state_dict())
    new_blocks(flamingo, recipe.flamingo.gate, recipe.seed)  # drawn on the CPU, so that it is the same on every device
    flamingo.to(place.device)
    spec = recipe.flamingo
    pool = training_pool("flamingo", spec.views, spec.pairs, spec.invented)
    pictures = encoded(flamingo.vision, _pictures(pool, config, place), config.preprocess, place.device)
    clips = None
    if spec.clips:
        filmed_pool = training_clips("flamingo", spec.filmed)
        clips = EncodedPool(filmed_pool, _encoded_clips(flamingo.vision, filmed_pool, config, place))
    train_flamingo(flamingo, spec, EncodedPool(pool, pictures[:, None]), clips, collate, recipe.seed, place)
    return export(flamingo, recipe, collate, out, frozen)


def recipe_config(recipe: Recipe) -> FlamingoConfig:
    """The recipe's preset with the vocabulary of the sample world."""
    require_preset(recipe)
    config = PRESETS[recipe.model]
    decoder = replace(
        config.decoder,
        vocabulary=make_tokenizer().get_vocab_size(),
        context=CONTEXT,
        logit_scale=config.decoder.width**-0.5,
    )
    vision = replace(config.vision, alpha=1.0) if isinstance(config.vision, NFNetConfig) else config.vision
    return replace(config, name=recipe.name, decoder=decoder, vision=vision)


def _train_vision(recipe: Recipe, config: FlamingoConfig, collate: Collator, place: Place) -> nn.Module:
    """Stage 1; the text tower is discarded."""
    spec = recipe.contrastive
    towers = new_towers(config, spec, config.decoder.vocabulary, recipe.seed).to(place.device)
    pool = training_pool("contrastive", spec.views, spec.pairs, spec.invented)
    if not finished("contrastive", {"towers": towers}, spec.optim, place):
        pictures = _pictures(pool, config, place)
        train_contrastive(towers, spec, pool, pictures, config, collate, recipe.seed, place)
    return towers.vision


def _train_decoder(recipe: Recipe, config: FlamingoConfig, collate: Collator, place: Place) -> nn.Module:
    """Stage 2."""
    decoder = new_decoder(config.decoder, collate, recipe.seed).to(place.device)
    pool = training_pool("language", TEXT_VIEWS, TEXT_PAIRS, recipe.language.invented)
    clips = training_clips("language", TEXT_PAIRS)
    train_language(decoder, recipe.language, pool, clips, collate, recipe.seed, place)
    check = place.folder / "language-check.json"
    if not check.is_file():
        shares = {task: round(share, 3) for task, share in repeats_by_task(decoder, pool, collate).items()}
        write_atomically(check, json.dumps(shares) + "\n")
        place.console.print(f"accuracy of repeated answers, in text: {shares}")
    return decoder


def _pictures(pool: ScenePool, config: FlamingoConfig, place: Place) -> torch.Tensor:
    scenes = track(pool.scenes, "drawing pictures", console=place.console)
    return rendered(scenes, len(pool.scenes), config.preprocess)


def _encoded_clips(vision: nn.Module, pool: ScenePool, config: FlamingoConfig, place: Place) -> torch.Tensor:
    """Features of the frames of all clips, [N, T, P, V]."""
    scenes = track(pool.scenes, "drawing clips", console=place.console)
    frames = filmed(scenes, len(pool.scenes), config.preprocess)
    features = encoded(vision, frames.flatten(0, 1), config.preprocess, place.device)
    return features.view(*frames.shape[:2], *features.shape[1:])


def _check_frozen(frozen: Model, config: FlamingoConfig, collate: Collator) -> None:
    """Raise CheckpointError unless `frozen` has the shapes and vocabulary of the recipe's own first two stages."""
    other = frozen.config
    equal = {
        "vision encoder": (other.vision, other.preprocess) == (config.vision, config.preprocess),
        "language model": other.decoder == config.decoder,
        "vocabulary": frozen.tokenizer.fast.get_vocab() == collate.tokenizer.get_vocab(),
    }
    differing = [part for part, same in equal.items() if not same]
    if differing:
        raise CheckpointError(
            f"{frozen.folder}does not match the recipe: another {', another '.join(differing)}.",
            fix="--frozen needs a checkpoint of the same preset, made by `flamingo-eval train`.",
        )


def export(flamingo: Flamingo, recipe: Recipe, collate: Collator, out: Path, frozen: Model | None = None) -> Path:
    """The checkpoint folder: weights in float16."""
    folder = out / "checkpoint"
    weights = {name: tensor.to("cpu", torch.float16) for name, tensor in flamingo.state_dict().items()}
    card = model_card(recipe, flamingo.config, out, frozen)
    shutil.rmtree(folder, ignore_errors=True)
    with new_folder(folder) as unfinished:
        save_flamingo(unfinished, flamingo.config, weights, collate.tokenizer.to_str(pretty=False), card)
    return folder


def _check_folder(recipe: Recipe, frozen: Model | None, out: Path) -> None:
    """Raise CheckpointError if the folder holds the state of another run: resuming would mix the two."""
    marker = out / "recipe.txt"
    run = repr(recipe) + (f" on the encoder and decoder of {frozen.sha256}" if frozen is not None else "")
    if marker.is_file():
        if marker.read_text(encoding="utf-8") != run:
            raise CheckpointError(
                f"{out} contains a run of another recipe, or of another encoder and decoder.",
                fix="Use another --out, or remove that folder.",
            )
        return
    write_atomically(marker, run)
