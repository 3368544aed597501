"""Fast binding, similar to Frozen's Open-Ended miniImageNet and VL-ICL: nonsense names bound to objects in the prompt.

A pool is a few objects under names that mean nothing outside it; a query's shots come from its own pool. Knowledge in a
model's weights does not help. `seen` pools show objects of the training part (other pictures), `unseen` pools objects
that no stage of training has shown or named.
"""

from __future__ import annotations

from pathlib import Path
from random import Random

from flamingo_eval.sample.benchmarks.writers import write_json, write_picture
from flamingo_eval.sample.world.scenes import BACKGROUNDS, group_scene, held_out, seen, world
from flamingo_eval.sample.world.wording import NONSENSE

WAYS = (2, 5, 8)
POOLS = 50  # of each part and number of ways
QUERIES = 4  # of a pool
VIEWS = 24  # pictures of an object: the last few for queries, the others for shots
SHOT_VIEWS = 20
OBJECTS = 58  # of each part


def build_fastbind(root: Path) -> None:
    """fastbind.json (pools with support and queries) and images/."""
    parts = {"seen": Random(f"{world()}:fastbind").sample(seen(), OBJECTS), "unseen": list(held_out()[:OBJECTS])}
    for part, objects in parts.items():
        for o in objects:
            for v in range(VIEWS):
                scene = group_scene(f"fastbind:{part}:{o}:{v}", o, v % len(BACKGROUNDS))
                write_picture(root / "images" / _image(part, o, v), scene)
    pools = [
        _pool(part, objects, ways, number)
        for part, objects in parts.items()
        for ways in WAYS
        for number in range(POOLS)
    ]
    write_json(root / "fastbind.json", {"pools": pools})


def _image(part: str, concept: int, view: int) -> str:
    return f"{part}_{concept:03d}_{view:02d}.jpg"


def _pool(part: str, objects: list[int], ways: int, number: int) -> dict[str, object]:
    id = f"{part}-{ways}-{number:03d}"
    rng = Random(f"{world()}:{id}")
    pool_objects, names = rng.sample(objects, ways), rng.sample(NONSENSE, ways)
    support = [
        {"image": _image(part, o, v), "name": name}
        for o, name in zip(pool_objects, names, strict=True)
        for v in range(SHOT_VIEWS)
    ]
    query_ways = [rng.randrange(ways) for _ in range(QUERIES)]
    queries = [
        {"image": _image(part, pool_objects[way], SHOT_VIEWS + i), "name": names[way]}
        for i, way in enumerate(query_ways)
    ]
    return {"id": id, "part": part, "ways": ways, "names": names, "support": support, "queries": queries}
