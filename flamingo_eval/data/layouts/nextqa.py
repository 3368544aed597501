"""NExT-QA, open-ended: CSV files. The multiple-choice release has the same file names; its columns are an error.

A question is identified by (video, qid). Questions have no question mark in the files (option question_mark). Half of
the test videos have extra references; a listed video must list all of its questions.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from flamingo_eval.data.annotation_files import read_csv, read_object
from flamingo_eval.data.annotations import Record, unique
from flamingo_eval.data.layouts.names import question_text
from flamingo_eval.data.source import Source
from flamingo_eval.errors import DataError
from flamingo_eval.records import Example, Split

TYPES = ("CW", "CH", "TN", "TC", "TP", "DL", "DC", "DB", "DO")


def load(source: Source) -> Split:
    """Examples in file order. id: <video>_<qid>. labels: question_type, extra_references, video_id."""
    path = source.file("annotations")
    records = read_csv(path, ["video", "question", "answer", "qid", "type"], source.log)
    _refuse_multiple_choice(path, records)
    extra = _extra(source)
    vidor = _vidor(source)
    folders = source.folders("videos")
    examples = []
    keyed = [(f"{record.id('video')}_{record.id('qid')}", record) for record in records]
    for id, record in unique(keyed, "qid").items():
        video, qid, kind = record.id("video"), record.id("qid"), record.text("type")
        if kind not in TYPES:
            record.problem("type", f"expected one of {', '.join(TYPES)}, got '{kind}'.")
        answer = record.filled("answer")
        extra_references: tuple[str, ...] = ()
        if extra is not None and video in extra.values:
            of_video = extra.values[video]
            second = of_video.get(qid) if isinstance(of_video, dict) else None
            if isinstance(second, str):
                extra_references = (second,)
            else:
                extra.problem(video, f"question {qid} of this video has no second reference.")
        name = vidor.get(video)
        examples.append(
            Example(
                id=id,
                media=source.clip(folders, (*((str(name),) if name else ()), video)),
                media_id=video,
                fields={"question": question_text(source, record)},
                answer=answer,
                references=(answer,),
                labels={"question_type": kind, "extra_references": extra_references, "video_id": video},
            )
        )
    return source.finish(examples)


def _refuse_multiple_choice(path: Path, records: list[Record]) -> None:
    if records and {"a0", "a4"} <= records[0].values.keys():
        raise DataError(
            f"{path}: columns a0 to a4: this is the multiple-choice release of NExT-QA.",
            fix="The open-ended one is doc-doc/NExT-OE, folder dataset/nextqa.",
        )


def _extra(source: Source) -> Record | None:
    """{video: {qid: answer}}, if the split has such a file."""
    path = source.optional_file("extra_references")
    return read_object(path, source.log) if path else None


def _vidor(source: Source) -> Mapping[str, object]:
    """{video: "0101/2909445186"}: its path in a nested download."""
    path = source.optional_file("mapping")
    return read_object(path, source.log).values if path else {}
