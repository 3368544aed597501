"""Stage 2: the decoder on text. Episodes are those of stage 3, with each picture described in words."""

from __future__ import annotations

from random import Random

import torch
import torch.nn.functional as F
from torch import Tensor

from flamingo_eval.models.config import DecoderConfig
from flamingo_eval.models.decoder import Decoder
from flamingo_eval.models.initialise import initialise
from flamingo_eval.training.batches import Batch, Collator
from flamingo_eval.training.concept_pools import ScenePool
from flamingo_eval.training.loop import Place, fit
from flamingo_eval.training.recipe import LanguageSpec
from flamingo_eval.training.sample_episodes import Chunk, draw_episode

TOKENS_A_CHUNK = 11  # approximate; decides how many episodes fill a batch
QUERY_GAIN = 1.5
COPY_GAIN = 0.5
CHECKED = ("bind", "bind-colour", "bind-count", "caption", "vqa", "bound")  # tasks that are evaluated at the end
CHECKED_EPISODES, CHECKED_CHUNKS = 60, 17
LONG = 33  # chunks: 32 shots and a query


def new_decoder(config: DecoderConfig, collate: Collator, seed: int) -> Decoder:
    """Fresh weights from which a narrow decoder quickly learns to match content; from the usual ones it does not.

    Embeddings have unit size (Adam moves all rows alike, so small ones would soon be parallel; `logit_scale` keeps the
    logits small), other weights unit gain. Queries start equal to keys, large, and blind to the words that every
    demonstration has, so that attention starts with the demonstrations whose content is similar; the output projection
    starts as the transpose of the value projection, so that their answers are copied.
    """
    generator = torch.Generator().manual_seed(seed)
    decoder = Decoder(config)
    initialise(decoder, generator)
    inner = config.heads * config.head_dim
    with torch.no_grad():
        decoder.embedding.weight.normal_(0.0, 1.0, generator=generator)
        form = F.normalize(decoder.embedding.weight[collate.form_ids], dim=1)
        span = torch.linalg.qr(form.T).Q  # [D, words of form]
        for name, parameter in decoder.blocks.named_parameters():
            if parameter.ndim == 2 and not name.endswith("taps"):
                residual = name.endswith(("attention.out.weight", "ff.down.weight"))
                std = parameter.shape[1] ** -0.5 * ((2 * config.layers) ** -0.5 if residual else 1.0)
                parameter.normal_(0.0, std, generator=generator)
            if name.endswith("qkv.weight") and config.kv_heads == config.heads:
                queries = parameter[:inner]
                queries -= (queries @ span) @ span.T
                queries *= QUERY_GAIN
                parameter[inner : 2 * inner] = queries
        if config.kv_heads == config.heads:
            for block in decoder.blocks:
                attention = block.attention
                values = attention.qkv.weight[2 * inner :]  # type: ignore[union-attr, index]
                attention.out.weight.copy_(COPY_GAIN * values.T)  # type: ignore[union-attr, operator]
    return decoder


def weighted_loss(logits: Tensor, batch: Batch) -> tuple[Tensor, dict[str, float]]:
    """Next-token loss by weight, and the accuracy over tokens of repeated answers. [B, S, W] -> scalar"""
    targets, weights = batch.tokens[:, 1:], batch.weights[:, 1:]
    mask = weights > 0
    rows, labels = logits[:, :-1][mask].float(), targets[mask]
    losses = F.cross_entropy(rows, labels, reduction="none")
    loss = (losses * weights[mask]).sum() / weights.sum()
    is_repeat = batch.repeats[:, 1:][mask]
    right = (rows.argmax(-1) == labels)[is_repeat].float().mean().item() if bool(is_repeat.any()) else 0.0
    return loss, {"repeats": right}


def text_episodes(spec: LanguageSpec, pool: ScenePool, clips: ScenePool, seed: int, update: int) -> list[list[Chunk]]:
    """The episodes of one update."""
    rng = Random(f"{seed}:language:{update}")
    progress = update / spec.optim.updates
    one_word_share = spec.plain[0] + (spec.plain[1] - spec.plain[0]) * progress
    chunks = LONG if progress > 0.8 and rng.random() < spec.long else rng.randint(*spec.chunks)
    n = max(1, round(spec.tokens / (chunks * TOKENS_A_CHUNK)))
    if rng.random() < spec.clips:
        return [draw_episode(rng, clips, {"clip": 1.0}, chunks, one_word_share) for _ in range(n)]
    return [draw_episode(rng, pool, spec.weights, chunks, one_word_share) for _ in range(n)]


@torch.inference_mode()
def repeats_by_task(decoder: Decoder, pool: ScenePool, collate: Collator) -> dict[str, float]:
    """Share of correct tokens among repeated answers, for each task, with pictures fully described in words.

    The episodes are not used in training. The third stage can hardly teach what the decoder cannot do in text, so check
    these numbers before training further.
    """
    device = next(decoder.parameters()).device
    shares = {}
    for task in CHECKED:
        right = total = 0
        for i in range(CHECKED_EPISODES):
            episode = draw_episode(Random(f"check:{task}:{i}"), pool, {task: 1.0}, CHECKED_CHUNKS, plain=0.0)
            batch = collate([episode], 0.0, in_words=True).to(device)
            is_repeat = batch.repeats[:, 1:]
            right += int((decoder(batch.tokens)[:, :-1].argmax(-1) == batch.tokens[:, 1:])[is_repeat].sum())
            total += int(is_repeat.sum())
        shares[task] = right / total
    return shares


def train_language(
    decoder: Decoder,
    spec: LanguageSpec,
    pool: ScenePool,
    clips: ScenePool,
    collate: Collator,
    seed: int,
    place: Place,
) -> None:
    """Train the decoder in place."""
    forward = place.compiled(decoder.forward)

    def update(i: int) -> tuple[Tensor, dict[str, float]]:
        batch = collate(text_episodes(spec, pool, clips, seed, i), spec.other_tokens, in_words=True).to(place.device)
        return weighted_loss(forward(batch.tokens), batch)

    fit("language", {"decoder": decoder}, spec.optim, update, place)
