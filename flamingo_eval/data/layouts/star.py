"""STAR: four choices per question, in the order of `choice_id`, not of the list; the clip is start..end.

`answer` is the text of the right choice and is missing in test. Situations and programs are never part of a prompt.
"""

from __future__ import annotations

from flamingo_eval.data.annotations import Record, each_once
from flamingo_eval.data.json_records import JsonRecords, any_has
from flamingo_eval.data.layouts.names import question_text
from flamingo_eval.data.source import Source
from flamingo_eval.records import Example, Split

TYPES = ("Interaction", "Sequence", "Prediction", "Feasibility")


def load(source: Source) -> Split:
    """Examples in file order. id: question_id. labels: question_type (its prefix), video_id."""
    labelled, records = any_has("answer", JsonRecords(source.file("annotations"), source.log))
    folders = source.folders("videos")
    examples = []
    for id, record in each_once(((record.id("question_id"), record) for record in records), "question_id"):
        kind = id.split("_")[0]
        if kind not in TYPES:
            record.problem("question_id", f"expected one of the types {', '.join(TYPES)} before the first '_'.")
        candidates = _choices(record)
        answer = record.text("answer") if labelled else ""
        if labelled and candidates and answer not in candidates:
            record.problem("answer", f"'{answer}' is not one of the choices.")
        video = record.id("video_id")
        start, end = record.number("start"), record.number("end")
        if end <= start:
            record.problem("end", f"{end:g} is not after start {start:g}.")
        examples.append(
            Example(
                id=id,
                media=source.clip(folders, (video,), start, end),
                media_id=f"{video}_{start:g}_{end:g}",
                fields={"question": question_text(source, record), "candidates": candidates},
                answer=answer,
                candidates=candidates,
                target=candidates.index(answer) if answer in candidates else None,
                labels={"question_type": kind, "video_id": video},
            )
        )
    return source.finish(examples, labelled=labelled)


def _choices(record: Record) -> tuple[str, ...]:
    choices = sorted((c.integer("choice_id"), c.filled("choice")) for c in record.records("choices"))
    if choices and [number for number, _ in choices] != list(range(len(choices))):
        record.problem("choices", f"choice_id must run from 0 to {len(choices) - 1}.")
    return tuple(text for _, text in choices)
