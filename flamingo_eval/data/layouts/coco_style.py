"""Captions in COCO's own layout: `images` and `annotations` joined by image_id (NoCaps; any data set like it).

A file with pictures only (`nocaps_test_image_info.json`) is a split whose captions are on the server.
"""

from __future__ import annotations

from flamingo_eval.data.annotations import no_repeats, unique
from flamingo_eval.data.json_records import JsonRecords
from flamingo_eval.data.layouts.answers import demonstration_answer
from flamingo_eval.data.source import Source
from flamingo_eval.records import Example, Split


def load(source: Source) -> Split:
    """Examples in the order of `images`. id: the picture's id. labels: domain, if there is one."""
    path = source.file("annotations")
    pictures = JsonRecords(path, source.log, "images", passed_over="annotations")
    images = unique(((record.id("id"), record) for record in pictures), "id")
    has_annotations = pictures.rest.values.get("annotations") is not None
    annotations = JsonRecords(path, source.log, "annotations", passed_over="images") if has_annotations else ()
    captions: dict[str, list[str]] = {id: [] for id in images}
    labelled = False
    for record in no_repeats(annotations, "id"):
        labelled = True
        id = record.id("image_id")
        if id in captions:
            captions[id].append(record.filled("caption"))
        elif id:
            record.problem("image_id", f"picture {id} is missing in `images`.")
    folders = source.folders("images")
    examples = []
    for id, record in images.items():
        name, references = record.filled("file_name"), tuple(captions[id])
        if labelled and not references:
            record.problem("id", f"picture {id} has no caption.")
        examples.append(
            Example(
                id=id,
                media=source.image(folders, name),
                media_id=name,
                answer=demonstration_answer(source, references),
                references=references,
                labels={"domain": record.values["domain"]} if record.has("domain") else {},
            )
        )
    return source.finish(examples, labelled=labelled)
