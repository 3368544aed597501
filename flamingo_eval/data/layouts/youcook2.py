"""YouCook2: {"database": {<youtube id>: {"annotations": [{"segment", "id", "sentence"}]}}}, one file for both splits.

A query is one annotated segment of a video, with one reference. Videos are in folders by split and recipe type.
"""

from __future__ import annotations

from flamingo_eval.data.annotations import Record
from flamingo_eval.data.json_records import object_entries
from flamingo_eval.data.source import Source
from flamingo_eval.records import Example, Split


def load(source: Source) -> Split:
    """Examples in file order. id: <youtube id>_<annotation id>. labels: video_id."""
    path = source.file("annotations")
    subset = (source.words("subset") or (source.split,))[0]
    folders = source.folders("videos")
    examples: list[Example] = []
    subsets: dict[str, None] = {}
    labelled = True
    for name, value in object_entries(path, source.log, "database"):
        place = f"database.{name}"
        if not isinstance(value, dict):
            source.log.add(path, place, "expected an object.")
            continue
        video = Record(value, path, place, source.log)
        subsets[video.text("subset")] = None
        if value.get("subset") != subset:
            continue
        recipe = video.id("recipe_type")
        ids: dict[str, None] = {}
        for annotation in video.records("annotations"):
            number = annotation.id("id")
            if number in ids:
                annotation.problem("id", f"duplicate id {number}.", "Remove one of them.")
            ids[number] = None
            start, end = _segment(annotation)
            has_sentence = annotation.has("sentence")
            labelled = labelled and has_sentence
            sentence = annotation.filled("sentence") if has_sentence else ""
            examples.append(
                Example(
                    id=f"{name}_{number}",
                    media=source.clip(folders, (f"{recipe}/{name}", name), start, end),
                    media_id=f"{name}_{number}",
                    answer=sentence,
                    references=(sentence,) if has_sentence else (),
                    labels={"video_id": name},
                )
            )
    why_empty = f"Expected videos of {subset}, got {', '.join(sorted(subsets)) or 'no subset'}."
    return source.finish(examples, labelled=labelled, why_empty=why_empty)


def _segment(annotation: Record) -> tuple[float, float]:
    values = annotation.values.get("segment")
    if isinstance(values, list) and len(values) == 2 and all(isinstance(v, (int, float)) for v in values):
        start, end = float(values[0]), float(values[1])
        if 0 <= start < end:
            return start, end
    annotation.problem("segment", "expected [start, end] in seconds, the end after the start.")
    return 0.0, 1.0
