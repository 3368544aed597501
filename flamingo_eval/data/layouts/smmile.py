"""SMMILE and SMMILE++: problems with their own demonstrations, in a fixed order.

    {"problem_id", "order", "image", "image_url", "question", "answer", ...}

One row is a picture with its question and answer. The rows of a problem, sorted by `order`, are one episode: the last
is the query, those before it are its demonstrations. The file is the Hub's table of the split `train` with pictures in
it, or the same rows as JSON lines or CSV with names of files. Some rows of the release have no picture: they take the
file in the folders of pictures that has the last part of their `image_url` as its name.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from random import Random
from string import ascii_uppercase
from urllib.parse import unquote, urlsplit

from flamingo_eval.data.annotations import Record
from flamingo_eval.data.folders import MediaFolders
from flamingo_eval.data.layouts.rows import read_rows
from flamingo_eval.data.parquet import cells_without_bytes
from flamingo_eval.data.source import Source
from flamingo_eval.records import Example, Image, Split

SUPPORT = "support"


def load(source: Source) -> Split:
    """Queries, or with `subset: support` the demonstrations of all of them, problem by problem.

    id: the problem's; a demonstration's has its order behind it, `12/3`. labels of queries: pool, demonstrations (ids
    in the prompt's order). Close-ended: candidates are the answers of the problem, field options lists them by letter.
    """
    paths = source.look("annotations")
    source.read += paths
    problems: dict[str, list[Record]] = {}
    for record in (row for path in paths for row in read_rows(source, path)):
        id = record.id("problem_id")
        if id:
            problems.setdefault(id, []).append(record)
    folders = source.folders("images", tuple(dict.fromkeys(path.parent for path in paths)))
    wants_support = SUPPORT in source.words("subset")
    examples: list[Example] = []
    for id, rows in problems.items():
        ordered = _in_order(rows)
        options = _options(ordered)
        *shots, query = ordered
        if wants_support:
            examples += [_example(source, folders, row, _shot_id(id, row), {"pool": id}, options) for row in shots]
        else:
            labels = {"pool": id, "demonstrations": tuple(_shot_id(id, shot) for shot in shots)}
            examples.append(_example(source, folders, query, id, labels, options))
    return source.finish(examples)


def _in_order(rows: Sequence[Record]) -> list[Record]:
    """The rows of one problem by `order`; a duplicate order is a problem, as the last row is then unknown."""
    numbered: dict[int, Record] = {}
    for row in rows:
        order = row.integer("order")
        if order in numbered:
            row.problem("order", f"problem {row.id('problem_id')}: duplicate order {order}.", "Number its rows.")
        numbered.setdefault(order, row)
    return [numbered[order] for order in sorted(numbered)]


def _shot_id(problem: str, row: Record) -> str:
    return f"{problem}/{row.integer('order')}"


def _options(rows: Sequence[Record]) -> tuple[str, ...]:
    """The different answers of a problem, the query's included, in the order in which they come first."""
    answers = tuple(dict.fromkeys(row.filled("answer") for row in rows))
    if len(answers) > len(ascii_uppercase):
        rows[-1].problem("answer", f"its problem has {len(answers)} different answers, more than there are letters.")
    return answers


def _example(
    source: Source,
    folders: MediaFolders,
    row: Record,
    id: str,
    labels: Mapping[str, object],
    options: tuple[str, ...],
) -> Example:
    """A row; of a close-ended task with the options of its problem as candidates, and their lines in a drawn order."""
    media, media_id = _picture(source, folders, row)
    answer, fields = str(row.values.get("answer", "")), {"question": row.filled("question")}
    example = Example(id, media if source.with_media else (), media_id, fields, answer, (answer,), labels=labels)
    if source.task.mode != "close-ended" or answer not in options:
        return example
    lines = [f"{letter}. {text}" for letter, text in zip(ascii_uppercase, options, strict=False)]
    Random(f"smmile:{labels['pool']}:options").shuffle(lines)  # the released code lists them in a random order, too
    fields = {**fields, "options": "\n".join(lines)}
    return replace(example, fields=fields, candidates=options, target=options.index(answer))


@lru_cache(maxsize=4)
def _empty(path: Path, mtime_ns: int) -> Collection[int]:
    """The rows of a table without a picture's bytes. `mtime_ns` is part of the key: a rewritten file is read again."""
    del mtime_ns
    return cells_without_bytes(path, "image")


def _picture(source: Source, folders: MediaFolders, row: Record) -> tuple[tuple[Image, ...], str]:
    """The picture, and the key that rows with it share: its address if there is one, as in permutations."""
    image, url = row.values.get("image"), row.values.get("image_url")
    address = url if isinstance(url, str) else ""
    if isinstance(image, Image) and not (address and image.row in _empty(image.path, image.path.stat().st_mtime_ns)):
        return (image,), address or f"{image.path.name}[{image.row}]"
    names = [image] if isinstance(image, str) and image else []
    if address:
        names.append(unquote(urlsplit(address).path).rsplit("/", 1)[-1])
    if not any(names):
        row.problem("image", "there is neither a picture nor the address of one (image_url).")
        return (), ""
    return source.image(folders, *filter(None, names)), address or names[0]
