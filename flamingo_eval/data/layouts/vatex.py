"""VATEX: a list of ten-second clips with ten English captions each; the private test set has no captions.

`videoID` is `<youtube id>_<start>_<end>` with six digits of seconds. Ids may contain `_` and `-`, so it is split
from the right. A download contains either the cut clips or whole videos.
"""

from __future__ import annotations

from flamingo_eval.data.annotations import each_once
from flamingo_eval.data.json_records import JsonRecords, any_has
from flamingo_eval.data.layouts.answers import demonstration_answer
from flamingo_eval.data.layouts.clips import clip_of
from flamingo_eval.data.source import Source
from flamingo_eval.records import Example, Split


def load(source: Source) -> Split:
    """Examples in file order. id: videoID."""
    labelled, records = any_has("enCap", JsonRecords(source.file("annotations"), source.log))
    folders = source.folders("videos")
    examples = []
    for id, record in each_once(((record.id("videoID"), record) for record in records), "videoID"):
        references = record.texts("enCap") if labelled else ()
        parts = id.rsplit("_", 2)
        if len(parts) != 3 or not (parts[1].isdecimal() and parts[2].isdecimal()):
            record.problem("videoID", f"expected <youtube id>_<start>_<end>, got '{id}'.")
            continue
        examples.append(
            Example(
                id=id,
                media=clip_of(source, folders, (id,), parts[0], float(parts[1]), float(parts[2])),
                media_id=id,
                answer=demonstration_answer(source, references),
                references=references,
            )
        )
    return source.finish(examples, labelled=labelled)
