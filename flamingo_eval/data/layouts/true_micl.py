"""TrueMICL: the records of VL-ICL, whose rule can be found from the pictures of the demonstrations alone.

    {"id", "image": [path, ...], "question", "answer", "operator"}

One folder a task; the pictures of both lists are in its `img/`. Of VL-ICL it differs in what an operator may be and in
that a support row may name one: `answer` is then that operator's, and the row is shown to its queries alone. A list of
three answers is read as VL-ICL's, one for each of +, - and x.
"""

from __future__ import annotations

from flamingo_eval.data.annotation_files import read_list
from flamingo_eval.data.annotations import Record, shown, unique
from flamingo_eval.data.folders import MediaFolders
from flamingo_eval.data.layouts.vl_icl import OPERATORS, SUPPORT, answer_of, example_of, is_answer
from flamingo_eval.data.source import Source
from flamingo_eval.records import Example, Split


def load(source: Source) -> Split:
    """Examples in file order. id: the record's. labels: operator and answer_key, or answers, if there are any."""
    folders = source.folders("images")
    rows = read_list(source.file("annotations"), source.log)
    records = unique([(row.id("id"), row) for row in rows], "id")
    read = _shot if SUPPORT in source.words("subset") else _query
    return source.finish([read(source, folders, id, row) for id, row in records.items()])


def _query(source: Source, folders: MediaFolders, id: str, row: Record) -> Example:
    labels: dict[str, object] = {}
    if row.has("operator"):
        labels = {"operator": row.filled("operator"), "answer_key": row.filled("operator")}
    return example_of(source, folders, id, row, row.filled("question"), answer_of(row), labels)


def _shot(source: Source, folders: MediaFolders, id: str, row: Record) -> Example:
    answers = row.values.get("answer")
    if not isinstance(answers, list):
        answer = answer_of(row)
        labels: dict[str, object] = {"answers": {row.filled("operator"): answer}} if row.has("operator") else {}
        return example_of(source, folders, id, row, row.filled("question"), answer, labels)
    if len(answers) != len(OPERATORS) or not all(map(is_answer, answers)):
        row.problem("answer", f"expected {len(OPERATORS)} answers, one per operator, got {shown(answers)}.")
    labels = {"answers": dict(zip(OPERATORS, map(str, answers), strict=False))}
    return example_of(source, folders, id, row, row.filled("question"), "", labels)
