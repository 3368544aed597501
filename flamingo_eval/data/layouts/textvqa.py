"""TextVQA and TextCaps: {"data": [...]} with the split's name; pictures of train and val share a folder.

TextCaps has one entry per caption, which are grouped by picture here. The papers give the model no OCR tokens.
"""

from __future__ import annotations

from flamingo_eval.data.annotations import each_once, no_repeats
from flamingo_eval.data.json_records import JsonRecords, any_has
from flamingo_eval.data.layouts.answers import demonstration_answer
from flamingo_eval.data.layouts.names import question_text
from flamingo_eval.data.source import Source
from flamingo_eval.records import Example, Split


def load(source: Source) -> Split:
    """TextVQA: examples in file order. id: question_id."""
    file = JsonRecords(source.file("annotations"), source.log, "data")
    labelled, records = any_has("answers", file)
    folders = source.folders("images")
    examples = []
    for id, record in each_once(((record.id("question_id"), record) for record in records), "question_id"):
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
    _check_subset(source, file)
    return source.finish(examples, labelled=labelled)


def load_captions(source: Source) -> Split:
    """TextCaps: one example a picture, in order of first mention. id: image_id."""
    file = JsonRecords(source.file("annotations"), source.log, "data")
    labelled, records = any_has("caption_str", file)
    folders = source.folders("images")
    captions: dict[str, list[str]] = {}
    for record in no_repeats(records, "caption_id"):
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
    _check_subset(source, file)
    return source.finish(examples, labelled=labelled)


def _check_subset(source: Source, file: JsonRecords) -> None:
    """Check the file's split; this key may come after the data."""
    expected, subset = source.words("subset"), file.rest.values.get("dataset_type")
    if expected and isinstance(subset, str) and subset not in expected:
        fix = f"Split '{source.split}' needs {expected[0]}."
        file.rest.problem("dataset_type", f"this file is of '{subset}'.", fix)
