"""Fast binding and matching, after VL-ICL's open_mi and matching_mi: objects of the sample world under new names.

No stage of the bundled model's training has shown or named these objects.
"""

from __future__ import annotations

from pathlib import Path
from random import Random

from flamingo_eval.sample.benchmarks.draws import rng_of
from flamingo_eval.sample.benchmarks.writers import write_json
from flamingo_eval.sample.fresh.canvas import add_noise, any_ground, paste_object, save
from flamingo_eval.sample.fresh.dials import MatchingDials, OpenMiDials
from flamingo_eval.sample.world.scenes import concepts, held_out
from flamingo_eval.sample.world.wording import NONSENSE

SIDE = 128  # pixels of a picture
SIZES = (56, 104)  # of the named object
SMALL = (24, 36)  # of the others
OPEN, MATCHING = "open_mi", "matching_mi"
MATCHING_QUESTION = "Do the two images satisfy the induced relationship?"


def build_open_mi(root: Path, dials: OpenMiDials) -> None:
    """open_mi/query.json, an empty support.json, and query/ and support/: all shots are in the queries' records."""
    records = [_query(root, number, dials) for number in range(dials.queries)]
    write_json(root / OPEN / "query.json", records)
    write_json(root / OPEN / "support.json", [])


def _query(root: Path, number: int, dials: OpenMiDials) -> dict[str, object]:
    rng = rng_of("vl_icl", OPEN, number)
    concepts_shown = _classes(rng, dials.classes, dials.concepts, dials.similarity)
    names = rng.sample(NONSENSE, dials.classes)
    query_class = rng.randrange(dials.classes)
    support = {}
    for way, (name, concept) in enumerate(zip(names, concepts_shown, strict=True)):
        images = [f"{OPEN}/support/{number}_{way}_{view}.jpg" for view in range(dials.pictures)]
        for image in images:
            _draw(root / image, image, concept, concepts_shown, dials)
        support[name] = {"images": images, "caption": f"This is a {name}"}
    image = f"{OPEN}/query/{number}.jpg"
    _draw(root / image, image, concepts_shown[query_class], concepts_shown, dials)
    return {
        "id": f"open_mi_query_{number}",
        "image": [image],
        "question": "This is a",
        "answer": names[query_class],
        "classes": names,
        "support": support,
        "ways_shown": dials.ways,
    }


def _classes(rng: Random, n: int, objects: int, similarity: float) -> list[int]:
    """n different objects; of those after the first a share is of the same kind, if there are enough."""
    pool = list(held_out()[:objects])
    rng.shuffle(pool)
    kind = concepts()[pool[0]].kind
    same_kind = [c for c in pool[1:] if concepts()[c].kind == kind][: round(similarity * (n - 1))]
    other_concepts = [c for c in pool[1:] if c not in same_kind]
    selected = [pool[0], *same_kind, *other_concepts][:n]
    rng.shuffle(selected)
    return selected


def build_matching_mi(root: Path, dials: MatchingDials) -> None:
    """matching_mi/query.json, support.json (a `same` and a `diff` pair per row), query/ and support/."""
    queries = []
    for number in range(dials.queries):
        same = number % 2 == 0  # half of the queries are Yes
        pair = _pair(root, f"query/{number}", same, dials)
        queries.append({"id": f"matching_mi_query_{number}", **pair})
    rng_of("vl_icl", MATCHING, "order").shuffle(queries)
    support = []
    for number in range(dials.support):
        row = {}
        for key, same in (("same", True), ("diff", False)):
            pair = _pair(root, f"support/{number}_{key}", same, dials)
            row[key] = {"id": f"matching_mi_support_{number}_{key}", **pair}
        support.append(row)
    write_json(root / MATCHING / "query.json", queries)
    write_json(root / MATCHING / "support.json", support)


def _pair(root: Path, stem: str, same: bool, dials: MatchingDials) -> dict[str, object]:
    rng = rng_of("vl_icl", MATCHING, stem)
    alike = rng.random() < dials.similarity
    concepts_shown = _classes(rng, 2, len(held_out()), 1.0 if alike else 0.0)
    images = [f"{MATCHING}/{stem}_{letter}.jpg" for letter in "ab"]
    for image, concept in zip(images, (concepts_shown[0], concepts_shown[0 if same else 1]), strict=True):
        _draw(root / image, image, concept, concepts_shown, dials)
    return {"image": images, "question": MATCHING_QUESTION, "answer": "Yes" if same else "No"}


def _draw(path: Path, key: str, concept: int, excluded: list[int], dials: OpenMiDials | MatchingDials) -> None:
    """One object, and smaller ones next to it that are not in the episode."""
    rng = rng_of("vl_icl", "picture", key)
    pixels = any_ground(SIDE, rng)
    side = rng.randint(*SIZES)
    x, y = rng.randint(0, SIDE - side), rng.randint(0, SIDE - side)
    mirrored, cut = rng.random() < 0.5, rng.randrange(4)
    others = rng_of("vl_icl", "distractors", key)
    corners = others.sample([(0, 0), (0, 1), (1, 0), (1, 1)], 4)
    for right, low in corners[: dials.distractors]:
        small = others.randint(*SMALL)
        other = others.choice([c for c in held_out() if c not in excluded])
        paste_object(pixels, other, right * (SIDE - small), low * (SIDE - small), small)
    paste_object(pixels, concept, x, y, side, mirrored=mirrored, hidden=dials.occlusion, cut=cut)
    add_noise(pixels, dials.noise, rng_of("vl_icl", "noise", key))
    save(pixels, path)
