"""Kinetics-700-2020: CSV rows of labelled ten-second clips; the candidates are the labels of the data set, sorted.

Clips are named `<youtube id>_<start>_<end>` with six digits, flat or in one folder per class (maybe `_` for spaces).
"""

from __future__ import annotations

from flamingo_eval.data.annotation_files import read_csv
from flamingo_eval.data.annotations import Record, unique
from flamingo_eval.data.layouts.clips import clip_of
from flamingo_eval.data.source import Source
from flamingo_eval.records import Example, Split

COLUMNS = ["youtube_id", "time_start", "time_end"]


def load(source: Source) -> Split:
    """Examples in file order. id: <youtube id>_<start>_<end>. The test set has no label.

    Candidates: every label of the split's file and of the `labels` file (train), in string order.
    """
    records = read_csv(source.file("annotations"), COLUMNS, source.log)
    _check_split(source, records)
    labelled = any(record.has("label") for record in records)
    labels_file = source.optional_file("labels")
    label_records = (
        read_csv(labels_file, ["label"], source.log) if labels_file and labels_file not in source.read[:1] else []
    )
    class_names = {record.filled("label"): None for record in (*(records if labelled else ()), *label_records)}
    candidates = tuple(sorted(label for label in class_names if label))
    index = {label: i for i, label in enumerate(candidates)}
    folders = source.folders("videos")
    examples = []
    for id, record in unique([(_id(record), record) for record in records], "youtube_id").items():
        label = record.text("label") if labelled else ""
        names = tuple(
            f"{folder}{id}" for folder in (f"{label}/", f"{label.replace(' ', '_')}/", "") if label or not folder
        )
        start, end = record.number("time_start"), record.number("time_end")
        examples.append(
            Example(
                id=id,
                media=clip_of(source, folders, names, record.text("youtube_id"), start, end),
                media_id=id,
                answer=label,
                target=index.get(label),
            )
        )
    return source.finish(examples, candidates, labelled)


def _id(record: Record) -> str:
    return f"{record.filled('youtube_id')}_{record.integer('time_start'):06d}_{record.integer('time_end'):06d}"


def _check_split(source: Source, records: list[Record]) -> None:
    """Check the `split` column; `validate` is the older release's word for `val`."""
    expected = source.words("subset")
    for record in records:
        split = record.values.get("split")
        if expected and split is not None and split not in expected:
            record.problem(
                "split", f"this row is of '{split}'.", f"Split '{source.split}' needs {' or '.join(expected)}."
            )
