"""Problems with their own demonstrations, in SMMILE's layout: a few pictures with nonsense names, then the query.

In most problems a demonstration shows the query's object. In some none does, so its name cannot be known.
"""

from __future__ import annotations

import json
from itertools import permutations
from pathlib import Path

from flamingo_eval.sample.benchmarks.draws import rng_of
from flamingo_eval.sample.benchmarks.writers import write_picture
from flamingo_eval.sample.world.scenes import group_scene, seen
from flamingo_eval.sample.world.wording import NONSENSE

PROBLEMS = 32
LEAST, MOST = 2, 5  # demonstrations of a problem
SHOWN = 0.8  # share of the problems with a demonstration of the query's object
PERMUTED = 12  # problems whose demonstrations are permuted
ORDERS = 4  # of each of them
QUESTION = "What is its name?"

Row = dict[str, object]


def build_smmile(root: Path) -> None:
    """train.jsonl and images/: the rows of the Hub's table, with file names instead of pictures."""
    _write(root, [row for number in range(PROBLEMS) for row in _problem(root, number)])


def build_permutations(root: Path) -> None:
    """SMMILE++: each problem several times, with its demonstrations in other orders."""
    rows: list[Row] = []
    for number in range(PERMUTED):
        *shots, query = _problem(root, number)
        orders = list(permutations(range(len(shots))))
        rng_of("smmile", number, "orders").shuffle(orders)
        for k, order in enumerate(orders[:ORDERS]):
            problem = [*(shots[i] for i in order), query]
            rows += [{**row, "problem_id": f"{number}_{k}", "order": n} for n, row in enumerate(problem, 1)]
    _write(root, rows)


def _problem(root: Path, number: int) -> list[Row]:
    rng = rng_of("smmile", number)
    names = rng.sample(NONSENSE, 3)
    objects = dict(zip(names, rng.sample(seen(), 3), strict=True))
    query_name, *others = names
    demos = [rng.choice(names if rng.random() < 0.5 else others) for _ in range(rng.randint(LEAST, MOST))]
    if rng.random() < SHOWN:
        demos[rng.randrange(len(demos))] = query_name
    else:
        demos = [name if name != query_name else others[0] for name in demos]
    rows: list[Row] = []
    for order, name in enumerate([*demos, query_name], 1):
        image = f"{number}_{order}.jpg"
        write_picture(root / "images" / image, group_scene(f"smmile:{number}:{order}", objects[name]))
        rows.append(
            {
                "problem_id": str(number),
                "order": order,
                "image": image,
                "image_url": f"https://example.org/{image}",
                "question": QUESTION,
                "answer": name,
            }
        )
    return rows


def _write(root: Path, rows: list[Row]) -> None:
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (root / "train.jsonl").write_text(text, encoding="utf-8")
