"""Stage 2: the decoder on text alone. Episodes are the Flamingo's, with each picture put into words."""

from __future__ import annotations

from random import Random

import torch
import torch.nn.functional as F
from torch import Tensor

from flamingo_eval.models.config import DecoderConfig
from flamingo_eval.models.decoder import Decoder
from flamingo_eval.models.initialise import initialise
from flamingo_eval.training.batches import Batch, Collator
from flamingo_eval.training.loop import Place, fit
from flamingo_eval.training.mixture import Chunk, ScenePool, draw_episode
from flamingo_eval.training.recipe import LanguageSpec

TOKENS_A_CHUNK = 11  # about; decides how many episodes fill a batch
LONG = 33  # chunks: 32 shots and a query


def new_decoder(config: DecoderConfig, seed: int) -> Decoder:
    """Fresh weights; keys begin equal to queries, so that attention begins by finding what is alike."""
    decoder = Decoder(config)
    initialise(decoder, torch.Generator().manual_seed(seed))
    inner = config.heads * config.head_dim
    if config.kv_heads == config.heads:
        with torch.no_grad():
            for block in decoder.blocks:
                weight = block.attention.qkv.weight  # type: ignore[union-attr]
                weight[inner : 2 * inner] = weight[:inner]  # type: ignore[index]
    return decoder


def weighted_loss(logits: Tensor, batch: Batch) -> tuple[Tensor, dict[str, float]]:
    """Next-token loss by weight, and the accuracy over tokens of repeated answers. [B, S, W] -> scalar"""
    targets, weights = batch.tokens[:, 1:], batch.weights[:, 1:]
    picked = weights > 0
    rows, wanted = logits[:, :-1][picked].float(), targets[picked]
    losses = F.cross_entropy(rows, wanted, reduction="none")
    loss = (losses * weights[picked]).sum() / weights.sum()
    again = batch.repeats[:, 1:][picked]
    right = (rows.argmax(-1) == wanted)[again].float().mean().item() if bool(again.any()) else 0.0
    return loss, {"repeats": right}


def text_episodes(spec: LanguageSpec, pool: ScenePool, seed: int, update: int) -> list[list[Chunk]]:
    """The episodes of one update."""
    rng = Random(f"{seed}:language:{update}")
    done = update / spec.optim.updates
    plain = spec.plain[0] + (spec.plain[1] - spec.plain[0]) * done
    chunks = LONG if done > 0.8 and rng.random() < spec.long else rng.randint(*spec.chunks)
    n = max(1, round(spec.tokens / (chunks * TOKENS_A_CHUNK)))
    return [draw_episode(rng, pool, spec.weights, chunks, plain) for _ in range(n)]


def train_language(decoder: Decoder, spec: LanguageSpec, pool: ScenePool, collate: Collator, seed: int, place: Place):
    """Train the decoder in place."""

    def update(i: int) -> tuple[Tensor, dict[str, float]]:
        batch = collate(text_episodes(spec, pool, seed, i), spec.other_tokens, in_words=True).to(place.device)
        return weighted_loss(decoder(batch.tokens), batch)

    fit("language", {"decoder": decoder}, spec.optim, update, place)
