"""VizWiz-VQA: one list per split; the file name of the picture is the id.

The test file has neither answers nor types. "unanswerable" is an answer like any other.
"""

from __future__ import annotations

from flamingo_eval.data.annotations import each_once
from flamingo_eval.data.json_records import JsonRecords, any_has
from flamingo_eval.data.layouts.answers import demonstration_answer
from flamingo_eval.data.layouts.names import question_text
from flamingo_eval.data.source import Source
from flamingo_eval.records import Example, Split


def load(source: Source) -> Split:
    """Examples in file order. id: the file name of the picture. labels: answer_type, answerable."""
    labelled, records = any_has("answers", JsonRecords(source.file("annotations"), source.log))
    folders = source.folders("images")
    examples = []
    for name, record in each_once(((record.filled("image"), record) for record in records), "image"):
        references = record.texts_of("answers", "answer") if labelled else ()
        if labelled and record.has("answers") and not references:
            record.problem("answers", "is empty.")
        examples.append(
            Example(
                id=name,
                media=source.image(folders, name),
                media_id=name,
                fields={"question": question_text(source, record)},
                answer=demonstration_answer(source, references),
                references=references,
                labels={key: record.values[key] for key in ("answer_type", "answerable") if record.has(key)},
            )
        )
    return source.finish(examples, labelled=labelled)
