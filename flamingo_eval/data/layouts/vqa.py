"""VQAv2 and OK-VQA: a questions file and an annotations file, joined by question_id and never by position.

A split without an `annotations` role is held by the evaluation server. OK-VQA is scored on the stemmed `answer`, but
its demonstrations show `raw_answer` (option demonstration_field), as an annotator typed it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from flamingo_eval.data.annotations import NO_TEXT, Record, read_object, unique
from flamingo_eval.data.layouts.answers import demonstration_answer
from flamingo_eval.data.layouts.names import image_names, question_text
from flamingo_eval.data.source import Source
from flamingo_eval.records import Example, Split


def load(source: Source) -> Split:
    """Examples in the order of the questions file. id: question_id. labels: answer_type, question_type."""
    questions_file = source.file("questions")
    questions = read_object(questions_file, source.log)
    _check_subset(source, questions)
    records = questions.records("questions")
    by_id = unique([(record.id("question_id"), record) for record in records], "question_id")
    annotations: Mapping[str, Record] = {}
    labelled = bool(source.words("annotations"))
    if labelled:
        annotations = _annotations(source, by_id, questions_file)
    folders = source.folders("images")
    examples = []
    for id, record in by_id.items():
        images = image_names(source, record)
        annotation = annotations.get(id)
        references, answer, labels = ((), NO_TEXT, {}) if annotation is None else _answers(source, annotation)
        examples.append(
            Example(
                id=id,
                media=source.image(folders, *images),
                media_id=images[0],
                fields={"question": question_text(source, record)},
                answer=answer,
                references=references,
                labels=labels,
            )
        )
    return source.finish(examples, labelled=labelled)


def _annotations(source: Source, questions: Mapping[str, Record], questions_file: Path) -> Mapping[str, Record]:
    """Annotations by question id. Every question needs one, of the same picture; a filtered questions file is fine."""
    path = source.file("annotations")
    file = read_object(path, source.log)
    _check_subset(source, file)
    records = file.records("annotations")
    by_id = unique([(record.id("question_id"), record) for record in records], "question_id")
    if by_id and questions and not questions.keys() & by_id.keys():
        what = f"no question_id is also in {questions_file.name}: questions and annotations are of different splits."
        source.log.add(path, "annotations", what, f"Split '{source.split}' needs both of the same split.")
        return by_id
    for id, question in questions.items():
        annotation = by_id.get(id)
        if annotation is None:
            question.problem("question_id", f"question {id} has no annotation in {path.name}.")
        elif annotation.id("image_id") != question.id("image_id"):
            annotation.problem("image_id", f"question {id} is about picture {question.id('image_id')}.")
    return by_id


def _check_subset(source: Source, file: Record) -> None:
    """The official files say which split they are of; a renamed file of another split is named here."""
    expected = source.words("subset")
    found = file.values.get("data_subtype")
    if expected and isinstance(found, str) and found not in expected:
        fix = f"Split '{source.split}' needs {' or '.join(expected)}."
        file.problem("data_subtype", f"this file is of '{found}'.", fix)


def _answers(source: Source, annotation: Record) -> tuple[tuple[str, ...], str, dict[str, object]]:
    """References (all votes, in file order), the answer shown in demonstrations, labels."""
    references = annotation.texts_of("answers", "answer")
    if annotation.values.get("answers") == []:
        annotation.problem("answers", "is empty.")
    typed = source.option("demonstration_field", "answer")
    shown = references if typed == "answer" else annotation.texts_of("answers", typed)
    labels: dict[str, object] = {
        key: annotation.text(key) for key in ("answer_type", "question_type") if annotation.has(key)
    }
    return references, demonstration_answer(source, shown), labels
