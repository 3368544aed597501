"""GQA: an object of questions by id, in one file or in shards; test and challenge have no answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from flamingo_eval.data.annotations import Record, each_once
from flamingo_eval.data.json_records import any_has, object_entries
from flamingo_eval.data.layouts.names import question_text
from flamingo_eval.data.source import Source
from flamingo_eval.errors import DataError
from flamingo_eval.records import Example, Split


def load(source: Source) -> Split:
    """Examples in file order. id: the question's id. labels: is_balanced."""
    paths = source.look("annotations")
    if not paths:
        raise DataError(f"{source.title}: no annotations file.")
    source.read += paths
    labelled, records = any_has("answer", _records(source, paths))
    folders = source.folders("images")
    examples = []
    for id, record in each_once(((record.place, record) for record in records), "id"):
        image = record.id("imageId")
        answer = record.filled("answer") if labelled else ""
        examples.append(
            Example(
                id=id,
                media=source.image(folders, image),
                media_id=image,
                fields={"question": question_text(source, record)},
                answer=answer,
                references=(answer,) if labelled else (),
                labels={"is_balanced": record.values["isBalanced"]} if record.has("isBalanced") else {},
            )
        )
    return source.finish(examples, labelled=labelled)


def _records(source: Source, paths: Sequence[Path]) -> Iterator[Record]:
    """The questions of all shards; the place of a record is its id."""
    for path in paths:
        for id, value in object_entries(path, source.log):
            if isinstance(value, dict):
                yield Record(value, path, id, source.log)
            else:
                source.log.add(path, id, "expected an object.")
