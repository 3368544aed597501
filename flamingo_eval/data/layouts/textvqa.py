"""TextVQA and TextCaps: {"data": [...]} with the split's name in the head; pictures of train and val share a folder.

TextCaps has one entry a caption and is grouped by picture here. The papers give the model no OCR tokens.
"""

from __future__ import annotations

from flamingo_eval.data.annotations import Record, no_repeats, read_object, unique
from flamingo_eval.data.layouts.answers import demonstration_answer
from flamingo_eval.data.layouts.names import question_text
from flamingo_eval.data.source import Source
from flamingo_eval.records import Example, Split


def load(source: Source) -> Split:
    """TextVQA: examples in file order. id: question_id."""
    records = _data(source)
    folders = source.folders("images")
    labelled = any(record.has("answers") for record in records)
    examples = []
    for id, record in unique([(record.id("question_id"), record) for record in records], "question_id").items():
        image = record.id("image_id")
        references = record.texts("answers") if labelled else ()
        examples.append(
            Example(
                id=id,
                media=source.image(folders, image),
                media_id=image,
                fields={"question": question_text(source, record)},
                answer=demonstration_answer(source, references),
                references=references,
            )
        )
    return source.finish(examples, labelled=labelled)


def load_captions(source: Source) -> Split:
    """TextCaps: one example a picture, in order of first mention. id: image_id."""
    records = _data(source)
    folders = source.folders("images")
    labelled = any(record.has("caption_str") for record in records)
    no_repeats(records, "caption_id")
    captions: dict[str, list[str]] = {}
    for record in records:
        of_image = captions.setdefault(record.id("image_id"), [])
        if labelled:
            of_image.append(record.filled("caption_str"))
    examples = [
        Example(
            id=image,
            media=source.image(folders, image),
            media_id=image,
            answer=demonstration_answer(source, references),
            references=tuple(references),
        )
        for image, references in captions.items()
    ]
    return source.finish(examples, labelled=labelled)


def _data(source: Source) -> list[Record]:
    file = read_object(source.file("annotations"), source.log)
    expected, found = source.words("subset"), file.values.get("dataset_type")
    if expected and isinstance(found, str) and found not in expected:
        file.problem("dataset_type", f"this file is of '{found}'.", f"Split '{source.split}' needs {expected[0]}.")
    return file.records("data")
