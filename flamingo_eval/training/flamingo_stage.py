"""Stage 3: Resampler and gated blocks from scratch between a frozen encoder and a frozen decoder (Flamingo v2 2.3).

First short episodes with many captions, so that the model learns to read pictures; then few-shot episodes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from random import Random

import torch
from torch import Tensor, nn

from flamingo_eval.models.flamingo import Flamingo
from flamingo_eval.models.initialise import initialise
from flamingo_eval.models.resampler import Resampler
from flamingo_eval.training.batches import Batch, Collator
from flamingo_eval.training.concept_pools import ScenePool
from flamingo_eval.training.language_stage import LONG, weighted_loss
from flamingo_eval.training.loop import Place, fit
from flamingo_eval.training.recipe import FlamingoSpec
from flamingo_eval.training.sample_episodes import Chunk, draw_episode

CLIP_CHUNKS = (2, 9)  # shortest and longest episode of clips
CLIP_COST = 3  # of a clip, in pictures: only the Resampler reads its frames
GRID_STD = 0.3  # large enough to distinguish positions next to features of unit size, for counting and "left of"


def new_blocks(flamingo: Flamingo, gate: float, seed: int) -> None:
    """Fresh weights of unit gain for the Resampler and the gated blocks, gates at `gate`."""
    generator = torch.Generator().manual_seed(seed)
    for part in trained(flamingo):
        initialise(part, generator)
        with torch.no_grad():
            for module in part.modules():
                if isinstance(module, nn.Linear):  # 0.02 is too small for a narrow model
                    module.weight.normal_(0.0, module.in_features**-0.5, generator=generator)
            for name, parameter in part.named_parameters():
                if name.endswith("_gate"):
                    parameter.fill_(gate)
    if isinstance(flamingo.resampler, Resampler):
        with torch.no_grad():
            flamingo.resampler.latents.normal_(0.0, 1.0, generator=generator)
            for embeddings in (flamingo.resampler.grid, flamingo.resampler.time):
                if embeddings is not None:
                    embeddings.normal_(0.0, GRID_STD, generator=generator)


def trained(flamingo: Flamingo) -> list[nn.Module]:
    """The parameters that stage 3 trains."""
    parts: list[nn.Module] = [flamingo.xattn]
    return parts if flamingo.resampler is None else [*parts, flamingo.resampler]


def weights_sha256(modules: Iterable[nn.Module]) -> str:
    """Hash of all weights, to check that frozen parts did not change."""
    total = hashlib.sha256()
    for module in modules:
        for name, tensor in module.state_dict().items():
            total.update(name.encode())
            total.update(tensor.detach().cpu().reshape(-1).contiguous().view(torch.uint8).numpy().tobytes())
    return total.hexdigest()


@dataclass(frozen=True, slots=True)
class EncodedPool:
    """A pool with the frozen encoder's features of its scenes: [N, T, P, V], T = 1 for pictures."""

    pool: ScenePool
    features: Tensor


def flamingo_logits(flamingo: Flamingo, features: Tensor, tokens: Tensor, image_of_token: Tensor) -> Tensor:
    """Logits of episodes of up to M pictures or clips. [B, M, T, P, V], int64[B, S] twice -> [B, S, W]"""
    visual = flamingo.visual_tokens(features.flatten(0, 1).float())
    visual = visual.view(*features.shape[:2], *visual.shape[1:])  # [B, M, L, R]
    logits: Tensor = flamingo(tokens, flamingo.project_visual(visual), image_of_token)
    return logits


def features_of(batch: Batch, features: Tensor) -> Tensor:
    """Features of a batch's scenes, blended; missing scenes get any features. [N, T, P, V] -> [B, M, T, P, V]"""
    scene_features = features[batch.scenes.clamp(min=0)]
    if not bool(batch.shares.any()):
        return scene_features
    return scene_features.lerp(features[batch.others], batch.shares[..., None, None, None].to(scene_features.dtype))


def picture_episodes(
    spec: FlamingoSpec, pool: ScenePool, clips: ScenePool | None, seed: int, update: int
) -> tuple[ScenePool, list[list[Chunk]]]:
    """The episodes of one update, of one of the data sets: interleaved episodes, paired data, clips (v2 2.4)."""
    rng = Random(f"{seed}:flamingo:{update}")
    progress = update / spec.optim.updates
    first = progress < spec.caption_first
    weights = spec.first_weights if first else spec.weights
    kind = rng.random()
    if kind < spec.paired:
        return pool, [draw_episode(rng, pool, {"caption": 1.0}, 1, plain=0.0) for _ in range(spec.pictures)]
    if clips is not None and kind < spec.paired + spec.clips:
        chunks = rng.randint(*(spec.first_chunks if first else CLIP_CHUNKS))
        n = max(1, round(spec.pictures / (chunks * CLIP_COST)))
        return clips, [draw_episode(rng, clips, {"clip": 1.0}, chunks, plain=0.0) for _ in range(n)]
    if progress > 0.75 and rng.random() < spec.long:
        chunks = LONG
    else:
        chunks = rng.randint(*(spec.first_chunks if first else spec.chunks))
    n = max(1, round(spec.pictures / chunks))
    return pool, [draw_episode(rng, pool, weights, chunks, plain=0.0, blends=spec.blends) for _ in range(n)]


def train_flamingo(
    flamingo: Flamingo,
    spec: FlamingoSpec,
    pictures: EncodedPool,
    clips: EncodedPool | None,
    collate: Collator,
    seed: int,
    place: Place,
) -> None:
    """Train Resampler and gated blocks in place; vision encoder and decoder are frozen and stay bit-identical."""
    pool_of_clips = clips.pool if clips is not None else None
    forward = place.compiled(partial(flamingo_logits, flamingo))
    frozen = (flamingo.vision, flamingo.decoder)
    for part in frozen:
        part.requires_grad_(False)
    hash_before = weights_sha256(frozen)

    def update(i: int) -> tuple[Tensor, dict[str, float]]:
        pool, episodes = picture_episodes(spec, pictures.pool, pool_of_clips, seed, i)
        encoded_pool = clips if clips is not None and pool is clips.pool else pictures
        batch = collate(episodes, 0.0, in_words=False).to(place.device)
        logits = forward(features_of(batch, encoded_pool.features), batch.tokens, batch.image_of_token)
        loss, logged = weighted_loss(logits, batch)
        gates = {f"gate{n}": float(flamingo.gated_block(n).attention_gate.detach().tanh().abs().mean()) for n in blocks}  # type: ignore[union-attr]
        return loss, {**logged, **gates}

    blocks = flamingo.config.xattn_blocks
    modules = {"xattn": flamingo.xattn}
    if flamingo.resampler is not None:
        modules["resampler"] = flamingo.resampler  # type: ignore[assignment]
    fit("flamingo", modules, spec.optim, update, place, spec.gate_lr)
    if weights_sha256(frozen) != hash_before:
        raise AssertionError("frozen weights changed during stage 3")
