"""ImageNet in its official layout, with a small class list of its own: objects of the sample world."""

from __future__ import annotations

from pathlib import Path

from flamingo_eval.sample.benchmarks.draws import rng_of
from flamingo_eval.sample.benchmarks.writers import write_picture
from flamingo_eval.sample.world.scenes import group_scene, seen
from flamingo_eval.sample.world.wording import name_of

CLASSES, TRAIN_VIEWS, EVAL_VIEWS = 32, 9, 3


def wnid(concept: int) -> str:
    """An id in WordNet's form that no real synset has."""
    return f"n9{concept:07d}"


def build_imagenet(root: Path) -> None:
    """LOC_synset_mapping.txt, and train and val with one folder per class."""
    objects = sorted(rng_of("imagenet").sample(seen(), CLASSES))
    root.mkdir(parents=True, exist_ok=True)
    mapping = "".join(f"{wnid(c)} {name_of(c)}\n" for c in objects)
    (root / "LOC_synset_mapping.txt").write_text(mapping, encoding="utf-8")
    for concept in objects:
        for view in range(TRAIN_VIEWS + EVAL_VIEWS):
            scene = group_scene(f"sample:imagenet:{concept}:{view}", concept, count=1)
            train = view < TRAIN_VIEWS
            stem = f"{wnid(concept)}_{view}" if train else f"ILSVRC2012_val_{concept * 100 + view:08d}"
            write_picture(root / ("train" if train else "val") / wnid(concept) / f"{stem}.JPEG", scene)
