"""Fast binding: pools of objects with nonsense names, in one fastbind.json.

    {"pools": [{"id", "part": "seen" | "unseen", "ways": 5, "names": [...],
                "support": [{"image", "name"}], "queries": [{"image", "name"}]}]}

Names are valid only within their pool, so every example has labels["pool"]: a query's shots come from its own pool
(demos.py). `subset` lists the pools whose queries form a split (`seen-5`: five ways, objects seen in training), or
`support` for the demonstrations of all pools.
"""

from __future__ import annotations

from flamingo_eval.data.annotations import Record, no_repeats
from flamingo_eval.data.folders import MediaFolders
from flamingo_eval.data.json_records import JsonRecords
from flamingo_eval.data.source import Source
from flamingo_eval.records import Example, Split

SUPPORT = "support"


def load(source: Source) -> Split:
    """Examples in file order. id: pool, `q` or `s`, number. labels: pool, part, ways. candidates: the pool's names."""
    pools = JsonRecords(source.file("pools"), source.log, "pools")
    subset = source.words("subset") or (source.split,)
    folders = source.folders("images")
    examples: list[Example] = []
    variants: dict[str, None] = {}
    for pool in no_repeats(pools, "id"):
        variant = f"{pool.text('part')}-{pool.integer('ways')}"
        variants[variant] = None
        if SUPPORT in subset:
            examples += _examples(source, folders, pool, "support", "s")
        elif variant in subset:
            examples += _examples(source, folders, pool, "queries", "q")
    return source.finish(examples, why_empty=f"Expected pools of {' or '.join(subset)}, got {', '.join(variants)}.")


def _examples(source: Source, folders: MediaFolders, pool: Record, key: str, mark: str) -> list[Example]:
    id, names = pool.id("id"), pool.texts("names")
    labels = {"pool": id, "part": pool.text("part"), "ways": pool.integer("ways")}
    out: list[Example] = []
    for number, record in enumerate(pool.records(key)):
        name, image = record.filled("name"), record.filled("image")
        if name and name not in names:
            record.problem("name", f"'{name}' is not one of the pool's names.")
        out.append(
            Example(
                id=f"{id}:{mark}{number:03d}",
                media=source.image(folders, image),
                media_id=image,
                answer=name,
                references=(name,),
                labels=labels,
            )
        )
    return out
