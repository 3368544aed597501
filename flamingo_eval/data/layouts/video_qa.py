"""MSVD-QA and MSRVTT-QA: both ship train_qa.json, val_qa.json and test_qa.json; only MSRVTT-QA has `category_id`.

One clip has up to three names: `vid<N>` or `video<N>` by the QA file's number, and, for MSVD, the corpus' own
`<youtube id>_<start>_<end>`, which youtube_mapping.txt joins to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from pathlib import Path

from flamingo_eval.data.annotation_files import read_text
from flamingo_eval.data.annotations import ProblemLog, Record, each_once
from flamingo_eval.data.json_records import JsonRecords, any_has
from flamingo_eval.data.layouts.names import question_text
from flamingo_eval.data.source import Source
from flamingo_eval.errors import ConfigError, DataError
from flamingo_eval.records import Example, Split

NAMES = {"msvd": "vid", "msrvtt": "video"}


def load(source: Source) -> Split:
    """Examples in file order. id: id. labels: question_type (the first word), video_id."""
    dataset = source.option("dataset")
    if dataset not in NAMES:
        raise ConfigError(f"task '{source.task.name}', data.options.dataset: one of {', '.join(NAMES)}.")
    path = source.file("annotations")
    has_category, records = any_has("category_id", JsonRecords(path, source.log))
    first = next(records, None)
    if first is not None:
        _check_dataset(path, has_category, dataset)
        records = chain([first], records)
    mapping = source.optional_file("mapping")
    youtube = _youtube_names(mapping, source.log) if mapping else {}
    folders = source.folders("videos")
    examples = []
    for id, record in each_once(((record.id("id"), record) for record in records), "id"):
        number = record.id("video_id")
        clip = f"{NAMES[dataset]}{number}"
        question, answer = question_text(source, record), record.filled("answer")
        _check_range(source, record, number)
        examples.append(
            Example(
                id=id,
                media=source.clip(folders, (clip, *youtube.get(clip, ()))),
                media_id=clip,
                fields={"question": question},
                answer=answer,
                references=(answer,),
                labels={"question_type": question.split(" ")[0].lower(), "video_id": number},
            )
        )
    return source.finish(examples)


def _check_dataset(path: Path, has_category: bool, dataset: str) -> None:
    actual = "msrvtt" if has_category else "msvd"
    if actual != dataset:
        verb = "have" if actual == "msrvtt" else "have no"
        raise DataError(
            f"{path}: its records {verb} `category_id`: this is {actual.upper()}-QA, not {dataset.upper()}-QA.",
            fix="Both benchmarks have files of the same names: keep them in separate folders.",
        )


def _check_range(source: Source, record: Record, number: str) -> None:
    """Check clip numbers: MSRVTT's splits are ranges of them, so a renamed file of another split is detected."""
    for span in source.words("video_ids"):
        low, _, high = span.partition("-")
        if number.isdecimal() and not int(low) <= int(number) <= int(high):
            record.problem("video_id", f"clip {number} is not of split '{source.split}' ({span}).")


def _youtube_names(path: Path, log: ProblemLog) -> Mapping[str, tuple[str, ...]]:
    """`<youtube id>_<start>_<end> vid<N>` a line -> names by vid<N>."""
    names: dict[str, tuple[str, ...]] = {}
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        words = line.split()
        if len(words) == 2:
            names[words[1]] = (*names.get(words[1], ()), words[0])
        elif words:
            log.add(path, "", "expected '<youtube id>_<start>_<end> vid<N>'.", line=number)
    return names
