"""VQAv2 and OK-VQA: a questions file and an annotations file, joined by question_id, not by position.

The answers of a split without an `annotations` role are on the evaluation server. OK-VQA is scored on the stemmed
`answer`, but its demonstrations show `raw_answer` (option demonstration_field), as an annotator typed it.

VQAv2 has 650,000 rows: the files are read record by record, and rows share equal values.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from flamingo_eval.data.annotations import NO_TEXT, Record
from flamingo_eval.data.json_records import JsonRecords
from flamingo_eval.data.layouts.answers import demonstration_answer
from flamingo_eval.data.layouts.names import image_names, question_text
from flamingo_eval.data.source import Source
from flamingo_eval.records import Example, Media, Split


class _Question(NamedTuple):
    """A question, its picture's id in the file, and its place."""

    example: Example
    image_id: str
    place: str


def load(source: Source) -> Split:
    """Examples in the order of the questions file. id: question_id. labels: answer_type, question_type."""
    questions_file = source.file("questions")
    questions = _questions(source, questions_file)
    labelled = bool(source.words("annotations"))
    if labelled:
        _annotate(source, questions, questions_file)
    return source.finish([question.example for question in questions.values()], labelled=labelled)


def _questions(source: Source, path: Path) -> dict[str, _Question]:
    """Questions by id, without their answers."""
    file = JsonRecords(path, source.log, "questions")
    folders = source.folders("images")
    pictures: dict[str, tuple[str, tuple[Media, ...]]] = {}  # by image_id
    questions: dict[str, _Question] = {}
    for record in file:
        id = record.id("question_id")
        if id in questions:
            record.duplicate("question_id", id, questions[id].place)
        if id == NO_TEXT or id in questions:
            continue
        image_id = sys.intern(record.id("image_id"))
        if image_id not in pictures:
            names = image_names(source, record)
            pictures[image_id] = names[0], source.image(folders, *names)
        media_id, media = pictures[image_id]
        example = Example(id, media, media_id, {"question": question_text(source, record)})
        questions[id] = _Question(example, image_id, record.place)
    _check_subset(source, file.rest)
    return questions


def _annotate(source: Source, questions: dict[str, _Question], questions_file: Path) -> None:
    """Add answers to the questions. Each needs an annotation of the same picture; there may be further annotations, so
    a filtered questions file is valid.
    """
    path = source.file("annotations")
    file = JsonRecords(path, source.log, "annotations")
    places: dict[str, str] = {}
    labels: dict[tuple[str, ...], dict[str, object]] = {}  # shared by the rows of one type
    for record in file:
        id = record.id("question_id")
        if id in places:
            record.duplicate("question_id", id, places[id])
        if id == NO_TEXT or id in places:
            continue
        places[id] = record.place
        question = questions.get(id)
        if question is None:
            continue
        if record.id("image_id") != question.image_id:
            record.problem("image_id", f"question {id} is about picture {question.image_id}.")
        references, answer = _answers(source, record)
        of_types = {key: record.text(key) for key in ("answer_type", "question_type") if record.has(key)}
        example = replace(
            question.example,
            answer=answer,
            references=references,
            labels=labels.setdefault((*of_types, *of_types.values()), {**of_types}),
        )
        questions[id] = question._replace(example=example)
    _check_subset(source, file.rest)
    if places and questions and not questions.keys() & places.keys():
        what = f"no question_id is also in {questions_file.name}: questions and annotations are of different splits."
        source.log.add(path, "annotations", what, f"Split '{source.split}' needs both of the same split.")
        return
    for id, question in questions.items():
        if id not in places:
            what = f"question {id} has no annotation in {path.name}."
            source.log.add(questions_file, f"{question.place}.question_id", what)


def _check_subset(source: Source, file: Record) -> None:
    """Check the split in the official files, to detect a renamed file of another split."""
    expected = source.words("subset")
    subset = file.values.get("data_subtype")
    if expected and isinstance(subset, str) and subset not in expected:
        fix = f"Split '{source.split}' needs {' or '.join(expected)}."
        file.problem("data_subtype", f"this file is of '{subset}'.", fix)


def _answers(source: Source, annotation: Record) -> tuple[tuple[str, ...], str]:
    """References (all votes, in file order) and the answer shown in demonstrations."""
    references = tuple(map(sys.intern, annotation.texts_of("answers", "answer")))
    if annotation.values.get("answers") == []:
        annotation.problem("answers", "is empty.")
    field = source.option("demonstration_field", "answer")
    demonstrations = references if field == "answer" else annotation.texts_of("answers", field)
    return references, sys.intern(demonstration_answer(source, demonstrations))
