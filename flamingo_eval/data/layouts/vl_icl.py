"""VL-ICL Bench: query.json and support.json, one folder a task.

    {"id", "image": [path, ...], "question", "answer"}

`image` is a list of one or two paths, or one path, relative to the folder of all tasks. Option `shots` says what a shot
is:

    rows        a support row is a shot; if queries have an `operator`, its answers are a list with one per operator
    pairs       a support row has two examples, `same` and `diff`, which are shown together in this order
    of_query    the shots are in the query's own record: `support` has five pictures of each of its `classes`

demos.py reads this from labels of the rows: `group`, `answers` and `answer_key`, `pool` and `ways_shown`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from flamingo_eval.data.annotations import Record, each_once, shown
from flamingo_eval.data.folders import MediaFolders
from flamingo_eval.data.json_records import JsonRecords
from flamingo_eval.data.source import Source
from flamingo_eval.errors import ConfigError
from flamingo_eval.records import Example, Split

OPERATORS = ("+", "-", "x")  # the order of a support row's answers
PAIR = ("same", "diff")
SUPPORT = "support"
SHOTS = ("rows", "pairs", "of_query")
WAYS_SHOWN = 2  # classes of a round in open_mi: the query's own and one other; fresh copies may have another number
OPEN_QUESTION = "This is a"  # the released code's text before every name in open_mi


def load(source: Source) -> Split:
    """Examples in file order. id: the record's. labels: operator (operator induction), attribute (CLEVR)."""
    kind = source.option("shots", "rows")
    if kind not in SHOTS:
        kinds = ", ".join(SHOTS)
        raise ConfigError(f"task '{source.task.name}', data.options.shots: '{kind}' is not one of {kinds}.")
    folders = source.folders("images")
    rows: Iterable[Record] = JsonRecords(source.file("annotations"), source.log)
    is_support = SUPPORT in source.words("subset")
    if is_support and kind == "pairs":
        rows = (_labelled_pair(half) for row in rows for half in _halves(row))
    named = each_once(((row.id("id"), row) for row in rows), "id")
    if not is_support:
        return source.finish([_query(source, folders, id, row, kind) for id, row in named])
    if kind == "of_query":
        return source.finish([e for id, row in named for e in _shots_of(source, folders, id, row)])
    return source.finish([_shot(source, folders, id, row) for id, row in named])


def _query(source: Source, folders: MediaFolders, id: str, row: Record, kind: str) -> Example:
    answer, question = answer_of(row), row.filled("question")
    labels: dict[str, object] = {}
    if row.has("operator"):
        labels = {"operator": row.text("operator"), "answer_key": row.text("operator")}
        if labels["operator"] not in OPERATORS:
            row.problem("operator", f"expected one of {' '.join(OPERATORS)}, got {shown(row.values['operator'])}.")
    elif kind == "of_query":
        ways = row.integer("ways_shown") if row.has("ways_shown") else WAYS_SHOWN
        labels = {"pool": id, "ways_shown": ways}
        if answer not in row.texts("classes"):
            row.problem("answer", f"'{answer}' is not one of the query's classes.")
    elif kind == "pairs" and answer.lower() not in ("yes", "no"):
        row.problem("answer", f"expected Yes or No, got {shown(answer)}.")
    elif _names_attribute(question):
        labels = {"attribute": question.partition(":")[0]}
    return example_of(source, folders, id, row, question, answer, labels)


def _shot(source: Source, folders: MediaFolders, id: str, row: Record) -> Example:
    answers = row.values.get("answer")
    labels: dict[str, object] = {key: row.values[key] for key in ("group",) if key in row.values}
    if not isinstance(answers, list):
        return example_of(source, folders, id, row, row.filled("question"), answer_of(row), labels)
    if len(answers) != len(OPERATORS) or not all(is_answer(a) for a in answers):
        row.problem("answer", f"expected {len(OPERATORS)} answers, one per operator, got {shown(answers)}.")
    labels["answers"] = dict(zip(OPERATORS, map(str, answers), strict=False))
    return example_of(source, folders, id, row, row.filled("question"), "", labels)


def _shots_of(source: Source, folders: MediaFolders, query: str, row: Record) -> Iterator[Example]:
    """The pictures in a query of open_mi, by class, in order."""
    support = row.values.get("support")
    if not isinstance(support, dict):
        row.problem("support", "is missing." if support is None else f"expected an object, got {shown(support)}.")
        return
    for name in row.texts("classes"):
        pictures = support.get(name)
        if not isinstance(pictures, dict):
            row.problem(f"support.{name}", "is missing." if pictures is None else f"got {shown(pictures)}.")
            continue
        images = Record(pictures, row.file, f"{row.place}.support.{name}", row.log, row.line).texts("images")
        digits = len(str(len(images) - 1))
        for number, image in enumerate(images):
            yield Example(
                id=f"{query}/{name}/{number:0{digits}d}",
                media=source.image(folders, image),
                media_id=image,
                fields={"question": OPEN_QUESTION},
                answer=name,
                references=(name,),
                labels={"pool": query},
            )


def _halves(row: Record) -> Iterator[tuple[str, Record]]:
    """The two examples of a pair, with the name of their group."""
    halves = []
    for key in PAIR:
        value = row.values.get(key)
        if isinstance(value, dict):
            halves.append(Record(value, row.file, f"{row.place}.{key}", row.log, row.line))
        else:
            row.problem(key, "is missing." if value is None else f"expected an object, got {shown(value)}.")
    for half in halves:
        yield row.place, half


def _labelled_pair(item: tuple[str, Record]) -> Record:
    group, half = item
    return Record({**half.values, "group": group}, half.file, half.place, half.log, half.line)


def example_of(
    source: Source, folders: MediaFolders, id: str, row: Record, question: str, answer: str, labels: dict[str, object]
) -> Example:
    """A row with its one or two pictures."""
    images = _images(row)
    return Example(
        id=id,
        media=tuple(picture for image in images for picture in source.image(folders, image)),
        media_id=" ".join(images) or id,
        fields={"question": question},
        answer=answer,
        references=(answer,) if answer else (),
        labels=labels,
    )


def _images(row: Record) -> tuple[str, ...]:
    value = row.values.get("image")
    return (row.filled("image"),) if isinstance(value, str) else row.texts("image")


def answer_of(row: Record) -> str:
    """A text or an integer, as text."""
    value = row.values.get("answer")
    if not is_answer(value):
        what = f"expected a text or an integer, got {shown(value)}."
        row.problem("answer", what if "answer" in row.values else "is missing.")
        return ""
    return str(value)


def is_answer(value: object) -> bool:
    """A text that is not empty, or an integer."""
    return (isinstance(value, int) and not isinstance(value, bool)) or (isinstance(value, str) and value != "")


def _names_attribute(question: str) -> bool:
    """Whether it is a CLEVR question, such as `shape: cylinder`."""
    name, colon, value = question.partition(": ")
    return bool(colon and value) and name.isalpha()
