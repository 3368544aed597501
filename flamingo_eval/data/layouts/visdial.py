"""VisDial 1.0: dialogues of ten rounds over shared lists of questions and answers, 100 candidates per round.

A query is the densely annotated round: the caption, the true previous rounds, its question, and its 100 candidates in
file order. A demonstration is the whole dialogue. The files have no question marks; they are added, as in the
benchmark's own reader. Test dialogues end with the round to be answered.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flamingo_eval.data.annotations import Record, unique
from flamingo_eval.data.json_records import JsonRecords
from flamingo_eval.data.layouts.names import image_names
from flamingo_eval.data.source import Source
from flamingo_eval.records import Example, Split

Round = tuple[str, str]


@dataclass(frozen=True, slots=True)
class _Texts:
    """The shared lists of texts; dialogues contain indices."""

    questions: Sequence[str]
    answers: Sequence[str]

    def at(self, record: Record, key: str, texts: Sequence[str]) -> str:
        index = record.integer(key)
        if 0 <= index < len(texts):
            return texts[index]
        record.problem(key, f"{index} is not an index of the file's {key}s (0 to {len(texts) - 1}).")
        return ""

    def question(self, round_: Record) -> str:
        text = self.at(round_, "question", self.questions)
        return text if text.rstrip().endswith("?") else f"{text.rstrip()}?"

    def answer(self, round_: Record) -> str:
        return self.at(round_, "answer", self.answers)

    def candidates(self, round_: Record) -> tuple[str, ...]:
        indices = round_.values.get("answer_options")
        known = range(len(self.answers))
        if not isinstance(indices, list) or not all(isinstance(i, int) and i in known for i in indices):
            round_.problem("answer_options", "expected a list of indices into the file's answers.")
            return ()
        return tuple(self.answers[i] for i in indices)


def load(source: Source) -> Split:
    """One example per dialogue, in file order. id: image_id. fields: caption, rounds, question.

    labels: relevance (float a candidate), gt_index, round_id (1 to 10).
    """
    records = JsonRecords(source.file("dialogs"), source.log, "data.dialogs")
    dense = _dense(source) if source.words("dense") else None
    is_query = dense is not None or source.split != source.task.data.support
    dialogs = unique(((r.id("image_id"), r if is_query else _without_candidates(r)) for r in records), "image_id")
    file = records.rest
    expected, subset = source.words("subset"), file.values.get("split")
    if expected and isinstance(subset, str) and subset not in expected:
        file.problem("split", f"this file is of '{subset}'.", f"Split '{source.split}' needs {' or '.join(expected)}.")
    data = Record(_object(file, "data"), file.file, "data", source.log)
    data.records("dialogs")  # logs that they are missing
    texts = _Texts(data.texts("questions"), data.texts("answers"))
    folders = source.folders("images")
    examples = []
    for id, record in dialogs.items():
        rounds = record.records("dialog")
        fields: dict[str, object] = {"caption": record.filled("caption")}
        labels: dict[str, object] = {}
        candidates: tuple[str, ...] = ()
        target, round_id = None, len(rounds)
        if dense is not None:
            annotation = dense.get(id)
            if annotation is None:
                record.problem("image_id", f"dialogue {id} has no dense annotation.")
                continue
            round_id = annotation.integer("round_id")
            labels["relevance"] = _relevance(annotation)
        if is_query:
            if not 1 <= round_id <= len(rounds):
                record.problem("dialog", f"round {round_id} is annotated, but there are {len(rounds)}.")
                continue
            query = rounds[round_id - 1]
            fields["question"] = texts.question(query)
            candidates = texts.candidates(query)
            labels["round_id"] = round_id
            if query.has("gt_index"):
                target = query.integer("gt_index")
                labels["gt_index"] = target
            relevance = labels.get("relevance")
            if isinstance(relevance, tuple) and len(relevance) != len(candidates):
                record.problem("", f"{len(relevance)} relevances for {len(candidates)} candidates in round {round_id}.")
        rounds_shown = rounds[: round_id - 1] if is_query else rounds
        fields["rounds"] = tuple((texts.question(r), texts.answer(r)) for r in rounds_shown)
        names = image_names(source, record)
        examples.append(
            Example(
                id=id,
                media=source.image(folders, *names),
                media_id=id,
                fields=fields,
                answer=texts.answer(rounds[round_id - 1]) if rounds and rounds[round_id - 1].has("answer") else "",
                candidates=candidates,
                target=target,
                labels=labels,
            )
        )
    if dense is not None:
        for id in (id for id in dense if id not in dialogs):
            dense[id].problem("image_id", f"there is no dialogue about picture {id}.")
    return source.finish(examples, labelled=dense is not None or source.split == source.task.data.support)


def _without_candidates(dialog: Record) -> Record:
    """A dialogue without the candidates, a hundred numbers in each of a million rounds."""
    rounds = dialog.values.get("dialog")
    for round_ in rounds if isinstance(rounds, list) else ():
        if isinstance(round_, dict):
            round_.pop("answer_options", None)
    return dialog


def _dense(source: Source) -> Mapping[str, Record]:
    records = JsonRecords(source.file("dense"), source.log)
    return unique([(record.id("image_id"), record) for record in records], "image_id")


def _relevance(annotation: Record) -> tuple[float, ...]:
    """`gt_relevance`, called `relevance` in the sample of the training split."""
    key = "gt_relevance" if annotation.has("gt_relevance") else "relevance"
    values = annotation.values.get(key)
    if isinstance(values, list) and all(isinstance(v, (int, float)) and 0 <= v <= 1 for v in values):
        return tuple(float(v) for v in values)
    annotation.problem(key, "expected a list of numbers from 0 to 1.")
    return ()


def _object(record: Record, key: str) -> Mapping[str, object]:
    value = record.values.get(key)
    if isinstance(value, dict):
        return value
    record.problem(key, "expected an object.")
    return {}
