"""ISEKAI (Link-Context Learning): a creature nobody has seen, among pictures of it and of something that looks like it.

    {"image_name", "positive_list": [path, ...], "negative_list": [path, ...], "positive_promt", "negative_promt",
     "label_name"}

JSON lines, a query a line; `promt` is the data's own spelling. A shot is one picture of each list, in the order of the
lists: the i-th shot shows the i-th of both. Which of the two comes first is drawn for every shot.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from flamingo_eval.data.annotation_files import read_json_lines, read_list, read_text
from flamingo_eval.data.annotations import Record
from flamingo_eval.data.folders import MediaFolders
from flamingo_eval.data.source import Source
from flamingo_eval.records import Example, Split

SUPPORT = "support"
SENTENCE = re.compile(r"there is|in the image|[\"'.]", re.IGNORECASE)
LISTS = ("positive", "negative")


def load(source: Source) -> Split:
    """Queries in file order, or with `subset: support` the pictures of their lists.

    id: the query's `image_name`, with `#2` after it if an earlier line has the same; a list's picture is
    `<query>/positive/00`. labels of queries: pool, ways_shown, order_each_round, other_name.
    """
    paths = source.look("annotations")
    source.read += paths
    folders = source.folders("images", tuple(dict.fromkeys(path.parent for path in paths)))
    wants_support = SUPPORT in source.words("subset")
    examples: list[Example] = []
    times: dict[str, int] = {}
    for row in (row for path in paths for row in _rows(source, path)):
        name = row.filled("image_name")
        times[name] = times.get(name, 0) + 1
        id = name if times[name] == 1 else f"{name}#{times[name]}"
        names = {key: name_of(row.filled(f"{key}_promt")) for key in LISTS}
        if names["positive"].casefold() == names["negative"].casefold():
            row.problem("negative_promt", f"both lists have the name '{names['positive']}'.")
        if wants_support:
            examples += _shots(source, folders, id, row, names)
        else:
            examples.append(_query(source, folders, id, row, names))
    return source.finish(examples)


def _rows(source: Source, path: Path) -> list[Record]:
    """JSON lines whatever the file is called, or a JSON list."""
    is_list = read_text(path).lstrip().startswith("[")
    return read_list(path, source.log) if is_list else read_json_lines(path, source.log)


def name_of(text: str) -> str:
    """The name in `there is "red octopus" in the image.`, or the text itself: without these words, quotes, periods."""
    return " ".join(SENTENCE.sub(" ", text).split())


def _query(source: Source, folders: MediaFolders, id: str, row: Record, names: dict[str, str]) -> Example:
    """The picture is one of the positive list's creature, unless `label_name` is the negative list's name."""
    label = row.values.get("label_name")
    of_negative = isinstance(label, str) and name_of(label).casefold() == names["negative"].casefold()
    true, other = (names["negative"], names["positive"]) if of_negative else (names["positive"], names["negative"])
    image = row.filled("image_name")
    return Example(
        id=id,
        media=source.image(folders, image),
        media_id=image,
        answer=true,
        references=(true,),
        labels={"pool": id, "ways_shown": len(LISTS), "order_each_round": True, "other_name": other},
    )


def _shots(source: Source, folders: MediaFolders, id: str, row: Record, names: dict[str, str]) -> Iterator[Example]:
    for key in LISTS:
        images = row.texts(f"{key}_list")
        digits = len(str(len(images) - 1))
        for number, image in enumerate(images):
            yield Example(
                id=f"{id}/{key}/{number:0{digits}d}",
                media=source.image(folders, image),
                media_id=image,
                answer=names[key],
                references=(names[key],),
                labels={"pool": id},
            )
