"""Invented creatures in ISEKAI's layout: objects that no training has shown, under nonsense names."""

from __future__ import annotations

import json
from pathlib import Path

from flamingo_eval.sample.benchmarks.draws import rng_of
from flamingo_eval.sample.benchmarks.writers import write_picture
from flamingo_eval.sample.world.scenes import concepts, group_scene, held_out, seen
from flamingo_eval.sample.world.wording import NONSENSE

CREATURES = 10
QUERIES = 3  # of each creature
PICTURES = 4  # of each list


def build_isekai_10(root: Path) -> None:
    """ISEKAI-10.jsonl and images/: every creature with a common object."""
    _write(root, "ISEKAI-10", [(creature, seen()[7 * number]) for number, creature in enumerate(_creatures())])


def build_isekai_pair(root: Path) -> None:
    """ISEKAI-pair.jsonl and images/: every creature with another of its kind."""
    pairs = []
    for creature in _creatures():
        kind = concepts()[creature].kind
        alike = [c for c in held_out() if c != creature and concepts()[c].kind == kind]
        pairs.append((creature, rng_of("isekai", "alike", creature).choice(alike or list(seen()))))
    _write(root, "ISEKAI-pair", pairs)


def _creatures() -> list[int]:
    return rng_of("isekai", "creatures").sample(held_out(), CREATURES)


def _write(root: Path, name: str, pairs: list[tuple[int, int]]) -> None:
    lines = []
    for number, pair in enumerate(pairs):
        names = rng_of("isekai", name, number).sample(NONSENSE, 2)
        lists = [_pictures(root, f"{number}_{key}", concept, PICTURES) for key, concept in zip("pn", pair, strict=True)]
        for image in _pictures(root, f"{number}_q", pair[0], QUERIES):
            line = {
                "image_name": image,
                "positive_list": lists[0],
                "negative_list": lists[1],
                "positive_promt": f'there is "{names[0]}" in the image.',
                "negative_promt": f'there is "{names[1]}" in the image.',
                "label_name": names[0],
            }
            lines.append(json.dumps(line))
    (root / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _pictures(root: Path, stem: str, concept: int, n: int) -> list[str]:
    images = [f"{stem}_{i}.jpg" for i in range(n)]
    for image in images:
        write_picture(root / "images" / image, group_scene(f"isekai:{image}", concept))
    return images
