"""Hateful Memes: one JSON object a line. Candidates are "no" and "yes"; the meme's own text is part of the prompt.

Both releases are read: train, dev, test of phase 1 are train, dev_seen, test_seen of phase 2. The picture is the
file in `img`, whose name has leading zeros that the id does not have.
"""

from __future__ import annotations

from flamingo_eval.data.annotation_files import read_json_lines
from flamingo_eval.data.annotations import unique
from flamingo_eval.data.source import Source
from flamingo_eval.records import Example, Split

CANDIDATES = ("no", "yes")


def load(source: Source) -> Split:
    """Examples in file order. id: id. fields: text. target: 0 no, 1 yes; some test files have none."""
    records = read_json_lines(source.file("annotations"), source.log)
    folders = source.folders("images")
    labelled = any(record.has("label") for record in records)
    examples = []
    for id, record in unique([(record.id("id"), record) for record in records], "id").items():
        image = record.filled("img")
        target = record.integer("label") if labelled else None
        if target is not None and target not in (0, 1):
            record.problem("label", f"expected 0 or 1, got {target}.")
            continue
        examples.append(
            Example(
                id=id,
                media=source.image(folders, image, image.rpartition("/")[2]),
                media_id=image,
                fields={"text": record.text("text")},
                answer="" if target is None else CANDIDATES[target],
                target=target,
            )
        )
    return source.finish(examples, CANDIDATES, labelled)
