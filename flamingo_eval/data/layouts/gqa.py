"""GQA: an object of questions by id, in one file or in shards; test and challenge have no answers."""

from __future__ import annotations

from flamingo_eval.data.annotations import Record, read_object, unique
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
    records: list[tuple[str, Record]] = []
    for path in paths:
        for id, value in read_object(path, source.log).values.items():
            if isinstance(value, dict):
                records.append((id, Record(value, path, id, source.log)))
            else:
                source.log.add(path, id, "expected an object.")
    labelled = any(record.has("answer") for _, record in records)
    folders = source.folders("images")
    examples = []
    for id, record in unique(records, "id").items():
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
