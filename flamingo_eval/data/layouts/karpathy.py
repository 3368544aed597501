"""COCO and Flickr30k captions with Karpathy's splits: one dataset_<name>.json for all splits.

The folder of a COCO picture is its `filepath` (test pictures are in val2014), not the split's name. A split may combine
several of the file's: `subset: [train, restval]`. References are all captions as typed (`raw`), also if there are more
than five.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from flamingo_eval.data.annotations import Record, each_once
from flamingo_eval.data.folders import MediaFolders
from flamingo_eval.data.json_records import JsonRecords
from flamingo_eval.data.layouts.answers import demonstration_answer
from flamingo_eval.data.source import Source
from flamingo_eval.records import Example, Image, Split

SUBSETS = ("train", "restval", "val", "test")


def load(source: Source) -> Split:
    """Examples in file order. id: cocoid, or the file's stem without it (Flickr30k)."""
    file = JsonRecords(source.file("annotations"), source.log, "images")
    subset = source.words("subset") or (source.split,)
    split_names: dict[str, None] = {}
    folders = source.folders("images")
    examples = []
    for id, record in each_once(_of_subset(file, subset, split_names), "cocoid"):
        references = tuple(sentence.filled("raw") for sentence in record.records("sentences"))
        if record.has("sentences") and not references:
            record.problem("sentences", "is empty.")
        name = record.filled("filename")
        examples.append(
            Example(
                id=id,
                media=_picture(source, folders, record, name),
                media_id=name,
                answer=demonstration_answer(source, references),
                references=references,
            )
        )
    why_empty = f"Expected pictures of {' or '.join(subset)}, got {', '.join(sorted(split_names)) or 'no split'}."
    return source.finish(examples, why_empty=why_empty)


def _of_subset(
    records: Iterable[Record], subset: Sequence[str], split_names: dict[str, None]
) -> Iterator[tuple[str, Record]]:
    """The records of a split with their ids; adds the file's splits to `seen`."""
    for record in records:
        name = record.text("split")
        split_names[name] = None
        if name and name not in SUBSETS:
            record.problem("split", f"'{name}' is not one of {', '.join(SUBSETS)}.")
        if name in subset:
            yield _id(record), record


def _id(record: Record) -> str:
    return record.id("cocoid") if record.has("cocoid") else record.filled("filename").rpartition(".")[0]


def _picture(source: Source, folders: MediaFolders, record: Record, name: str) -> tuple[Image, ...]:
    with_folder = [f"{record.text('filepath')}/{name}"] if record.has("filepath") else []
    return source.image(folders, *with_folder, name)
