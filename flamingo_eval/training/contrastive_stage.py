"""Stage 1: vision encoder and text tower on pictures with captions (Flamingo v2 B.1.3).

Half of the loss compares each picture with the bare names of all objects, because most captions can be distinguished by
colour and number alone, and the encoder would learn no more than that. Invented objects (training objects in other
colours, or upside down) are classified too, so that the encoder learns features that no name requires yet.
"""

from __future__ import annotations

from random import Random

import torch
import torch.nn.functional as F
from torch import Tensor

from flamingo_eval.models.config import FlamingoConfig
from flamingo_eval.models.initialise import initialise
from flamingo_eval.models.nfnet import Block, StandardisedConv
from flamingo_eval.models.preprocess import normalised
from flamingo_eval.sample.world.scenes import Scene, concepts
from flamingo_eval.sample.world.wording import COLOURS, NUMBERS
from flamingo_eval.training.batches import Collator
from flamingo_eval.training.concept_pools import ScenePool, thing_of
from flamingo_eval.training.loop import Place, fit
from flamingo_eval.training.pixels import shifted
from flamingo_eval.training.recipe import ContrastiveSpec
from flamingo_eval.training.towers import Contrastive, ContrastiveConfig, TextTowerConfig, two_term_loss


def new_towers(config: FlamingoConfig, spec: ContrastiveSpec, vocabulary: int, seed: int) -> Contrastive:
    """Fresh weights for both towers."""
    w = spec.text_width
    text = TextTowerConfig(vocabulary, context=16, width=w, layers=2, heads=4, ff_width=2 * w)
    towers = Contrastive(ContrastiveConfig(config.vision, text, spec.width))
    initialise(towers, torch.Generator().manual_seed(seed))
    with torch.no_grad():
        for part in towers.vision.modules():
            if isinstance(part, StandardisedConv):  # the same function, but Adam's updates change it faster
                part.weight.mul_(part.weight[0].numel() ** -0.5)
            elif isinstance(
                part, Block
            ):  # few blocks do not need an identity start, and there are only hundreds of updates
                part.branch_gain.fill_(1.0)
    return towers


def plain_caption(scene: Scene) -> str:
    """A caption of everything in a picture, in basic words."""
    names = [concepts()[o].name for o in scene.objects]
    names[0] += tag(scene.look)
    colour = COLOURS["basic"][scene.background]
    if scene.layout == "pair":
        return f" {names[0]} left {names[1]} right on {colour}"
    return f" {NUMBERS['word'][scene.count - 1]} {names[0]} on {colour}"


def tag(look: int) -> str:
    """The mark of an invented object in this stage's texts; the language model never reads it."""
    return f" ~{look}" if look else ""


def padded_texts(collate: Collator, texts: list[str]) -> tuple[Tensor, Tensor]:
    """Texts -> token ids int64[N, S], and which of them are not padding, bool[N, S]."""
    ids = [collate.ids(t) for t in texts]
    width = max(map(len, ids))
    tokens = torch.tensor([row + [collate.pad] * (width - len(row)) for row in ids])
    return tokens, tokens != collate.pad


def train_contrastive(
    towers: Contrastive,
    spec: ContrastiveSpec,
    pool: ScenePool,
    pictures: Tensor,
    config: FlamingoConfig,
    collate: Collator,
    seed: int,
    place: Place,
) -> None:
    """Train both towers in place. `pictures` uint8[N, 3, H, W] are the pool's scenes."""
    row_of = {thing: i for i, thing in enumerate(pool.things)}
    bare_names = [f" {concepts()[o].name}{tag(look)}" for o, look in pool.things]
    names, names_real = (t.to(place.device) for t in padded_texts(collate, bare_names))
    captions = [plain_caption(s) for s in pool.scenes]

    def update(i: int) -> tuple[Tensor, dict[str, float]]:
        indices = Random(f"{seed}:contrastive:{i}").sample(range(len(pool.scenes)), spec.batch)
        generator = torch.Generator().manual_seed(seed * 1_000_003 + i)
        pixels = shifted(normalised(pictures[indices], config.preprocess), spec.shift, generator).to(place.device)
        pixels = pixels.contiguous(memory_format=torch.channels_last)  # a fifth faster on a CPU
        texts = [captions[c] for c in indices]
        tokens, real = (t.to(place.device) for t in padded_texts(collate, texts))
        same = torch.tensor([[a == b for b in texts] for a in texts], device=place.device)
        images = towers.embed_images(pixels)
        scale = towers.log_inverse_temperature.exp()
        full = two_term_loss(images, towers.embed_texts(tokens, real), scale, same, towers.config.label_smoothing)
        alone = [k for k, c in enumerate(indices) if pool.scenes[c].layout == "group"]
        labels = torch.tensor([row_of[thing_of(pool.scenes[indices[k]])] for k in alone], device=place.device)
        logits = scale * images[alone] @ towers.embed_texts(names, names_real).T
        name_loss = F.cross_entropy(logits.float(), labels)
        right = (logits.argmax(1) == labels).float().mean().item()
        return (1 - spec.names) * full + spec.names * 2 * name_loss, {"names": right, "full": full.item()}

    fit("contrastive", {"towers": towers}, spec.optim, update, place)
