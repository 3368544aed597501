"""Hateful Memes in its official layout, with harmless memes: "no fox" under a fox is unkind, under a cat it is not.

Neither the text nor the picture alone is enough, as in the benchmark's own confounders.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from flamingo_eval.sample.benchmarks.draws import rng_of, rows, scene_of
from flamingo_eval.sample.benchmarks.writers import write_picture
from flamingo_eval.sample.world.scenes import seen
from flamingo_eval.sample.world.wording import name_of


def build_hateful_memes(root: Path) -> None:
    """{train,test_seen}.jsonl and img."""
    for part, split in (("train", "train"), ("eval", "test_seen")):
        lines = []
        for n in rows(part):
            scene = scene_of("hateful_memes", n)
            label = n % 2
            other = rng_of("hateful_memes", n).choice([o for o in seen() if o not in scene.objects])
            text = f"no {name_of(scene.objects[0] if label else other)}"
            image = f"img/{n + 1:05d}.png"
            lines.append(json.dumps({"id": n + 1, "img": image, "label": label, "text": text}) + "\n")
            write_picture(root / image, replace(scene, count=1, sign=text))
        (root / f"{split}.jsonl").write_text("".join(lines), encoding="utf-8")
