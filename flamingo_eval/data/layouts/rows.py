"""The user's own rows: JSON lines, a JSON list, CSV, TSV, Parquet, or the Arrow files of a Hub dataset.

data.options maps roles to columns (`question: frage`); a role without an entry is read from the column with its own
name, if there is one. Pictures are file names, below the `images` folders or next to the rows, or bytes in the table
itself.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from flamingo_eval.data.annotation_files import read_csv, read_json_lines
from flamingo_eval.data.annotations import Record, is_it, unique
from flamingo_eval.data.folders import IMAGE_SUFFIXES
from flamingo_eval.data.json_records import JsonRecords
from flamingo_eval.data.layouts.answers import demonstration_answer
from flamingo_eval.data.layouts.names import question_text
from flamingo_eval.data.media_files import why_missing
from flamingo_eval.data.parquet import ARROW_SUFFIX, paths_without_bytes, read_columns, read_schema
from flamingo_eval.data.source import Source
from flamingo_eval.errors import DataError
from flamingo_eval.records import Example, Image, Media, Split

ROLES = ("id", "image", "video", "start", "end", "question", "answers", "candidates", "label", "picture")
TABLES = (".parquet", ARROW_SUFFIX)


def load(source: Source) -> Split:
    """Examples in file order. id: the `id` column, or the row's number. Without answers the split is unlabelled.

    `answers` is one text or a list of texts (the references). Close-ended: `candidates` is the row's own list, and
    `answers` the right one; `label` is a class name or, with role `classes`, its index, and the classes are the
    candidates of all rows. `picture` identifies rows of one picture, if its bytes do not. `fields` lists further
    columns for prompts, `labels` those for metrics.
    """
    columns = {role: source.option(role) or role for role in ROLES}
    paths = source.look("rows")
    source.read += paths
    records = [record for path in paths for record in read_rows(source, path)]
    _check_columns(source, records, columns)
    keyed = [
        (record.id(columns["id"]) if record.has(columns["id"]) else str(i), record) for i, record in enumerate(records)
    ]
    classes = _classes(source, records, columns["label"])
    beside = tuple(dict.fromkeys(path.parent for path in paths))
    folders = source.folders("images", beside), source.folders("videos", beside)
    labelled = any(_is_filled(record, columns["answers"]) or record.has(columns["label"]) for record in records)
    if not labelled and source.split == source.task.data.support:
        raise _without_answers(source, records, columns)
    extra, metric_labels = source.option("fields").split(), source.option("labels").split()
    examples = []
    for id, record in unique(keyed, columns["id"]).items():
        fields: dict[str, object] = {name: record.values.get(name, "") for name in extra}
        if record.has(columns["question"]):
            fields["question"] = question_text(source, record, columns["question"])
        references = _texts(record, columns["answers"]) if labelled and record.has(columns["answers"]) else ()
        candidates = _texts(record, columns["candidates"]) if record.has(columns["candidates"]) else ()
        target, answer = None, demonstration_answer(source, references)
        if labelled and classes:
            target = _class(record, columns["label"], classes)
            answer = classes[target] if target is not None else ""
        elif labelled and candidates:
            target = candidates.index(answer) if answer in candidates else None
            if target is None:
                record.problem(columns["answers"], f"'{answer}' is not one of the candidates.")
        elif labelled and not references:
            record.problem(columns["answers"], "is empty.")
        media, media_id = _media(source, record, columns, folders)
        examples.append(
            Example(
                id=id,
                media=media if source.with_media else (),
                media_id=media_id or id,
                fields=fields,
                answer=answer,
                references=references,
                candidates=candidates,
                target=target,
                labels={name: record.values[name] for name in metric_labels if record.has(name)},
            )
        )
    return source.finish(examples, classes, labelled)


def read_rows(source: Source, path: Path) -> Iterator[Record]:
    """The rows of a file by its suffix; a picture whose bytes are in a table is an Image there. Raises DataError."""
    suffix = path.suffix.lower()
    if suffix in (".jsonl", ".ndjson"):
        yield from read_json_lines(path, source.log)
    elif suffix == ".json":
        yield from JsonRecords(path, source.log)
    elif suffix in (".csv", ".tsv"):
        yield from read_csv(path, [], source.log, delimiter="\t" if suffix == ".tsv" else ",")
    elif suffix in TABLES:
        yield from _table_rows(source, path)
    else:
        known = ".jsonl, .json, .csv, .tsv, .parquet, .arrow"
        raise DataError(f"{path}: rows are read from {known}, not from '{suffix}'.")


def _table_rows(source: Source, path: Path) -> Iterator[Record]:
    """Rows of a table. Bytes of pictures are not read: the row has an Image that refers to them.

    A cell with a path and no bytes is a file name, if the file exists.
    """
    import pyarrow.types as kinds

    schema = read_schema(path)
    image = source.option("image") or "image"
    has_bytes_column = image in schema.names and not kinds.is_string(schema.field(image).type)
    table = read_columns(path, [name for name in schema.names if not (has_bytes_column and name == image)])
    folders = source.folders("images", (path.parent,))
    names = paths_without_bytes(path, image) if has_bytes_column else {}
    names = {row: name for row, name in names.items() if not why_missing(folders.find((name,), IMAGE_SUFFIXES))}
    row = 0
    for batch in table.to_batches(max_chunksize=1024):
        for values in batch.to_pylist():
            if has_bytes_column:
                values[image] = names.get(row) or Image(path, image, row)
            yield Record(values, path, "", source.log, row + 1)
            row += 1


def _check_columns(source: Source, records: list[Record], columns: Mapping[str, str]) -> None:
    """Raise DataError if a column of the task is missing in all rows, or no column has pictures or clips."""
    if not records:
        return
    role_columns = [source.option(role) for role in ROLES if source.option(role)]
    role_columns += source.option("fields").split() + source.option("labels").split()
    columns_present = _columns_of(records)
    missing = [name for name in role_columns if name not in columns_present]
    messages = [f"no column '{name}'. {is_it(name, columns_present)}".rstrip() for name in missing]
    media = (columns["image"], columns["video"])
    if not set(media) & columns_present.keys() and not set(media) & set(missing):
        hint_text = next(
            (hint for name in (*media, "picture", "file_name", "img") if (hint := is_it(name, columns_present))), ""
        )
        messages.append(
            f"no column '{media[0]}' or '{media[1]}': rows have neither a picture nor a clip. {hint_text}".rstrip()
        )
    if messages:
        fix = f"Columns found: {', '.join(columns_present)}. Set other names in the task's data.options."
        raise DataError(f"{records[0].file}: {' '.join(messages)}", fix=fix)


def _columns_of(records: list[Record]) -> dict[str, None]:
    return dict.fromkeys(key for record in records for key in record.values)


def _is_filled(record: Record, key: str) -> bool:
    """Whether a row has an answer; an empty cell of a CSV file is not an answer."""
    return record.has(key) and record.values[key] not in ("", [])


def _without_answers(source: Source, records: list[Record], columns: Mapping[str, str]) -> DataError:
    """The error for a support split without answers, which demonstrations need."""
    key, columns_present = columns["answers"], _columns_of(records)
    if key in columns_present:
        what = f"column '{key}' is empty in every row."
    else:
        what = f"no column '{key}' or '{columns['label']}'. {is_it(key, columns_present)}".rstrip()
    role = "answers: NAME" if key not in columns_present else f"answers: {key}"
    return DataError(
        f"{source.read[0] if source.read else source.root}: {what} Demonstrations are drawn from split "
        f"'{source.split}' and show its answers.",
        fix=f"Columns found: {', '.join(columns_present)}. Set the answers' one in the task's data.options ({role}).",
    )


def _texts(record: Record, key: str) -> tuple[str, ...]:
    """A list of texts, or of {"answer": ...}; in CSV files a JSON list, or one text. Numbers are read as text."""
    value: Any = record.values.get(key)
    if isinstance(value, str) and value.startswith("[") and value.endswith("]"):
        try:
            value = json.loads(value)
        except json.JSONDecodeError:
            record.problem(key, "starts like a JSON list but is not one.")
            return ()
    values = value if isinstance(value, list) else [value]
    values = [v.get("answer") if isinstance(v, dict) else v for v in values]
    if not all(isinstance(v, (str, int, float)) for v in values):
        record.problem(key, "expected a text or a list of texts.")
        return ()
    return tuple(v if isinstance(v, str) else json.dumps(v) for v in values)


def _classes(source: Source, records: list[Record], key: str) -> tuple[str, ...]:
    """Candidates of a classification task: the `classes` of the YAML, or the sorted class names of the split."""
    class_names = source.words("classes")
    if class_names or source.task.mode != "close-ended" or not any(record.has(key) for record in records):
        return class_names
    return tuple(sorted({str(record.values[key]) for record in records if record.has(key)}))


def _class(record: Record, key: str, classes: tuple[str, ...]) -> int | None:
    value = record.values.get(key)
    if isinstance(value, int) and 0 <= value < len(classes):
        return value
    if str(value) in classes:
        return classes.index(str(value))
    record.problem(key, f"'{value}' is not one of the {len(classes)} classes.", is_it(str(value), classes))
    return None


def _media(
    source: Source, record: Record, columns: Mapping[str, str], folders: tuple[Any, Any]
) -> tuple[tuple[Media, ...], str]:
    image = record.values.get(columns["image"])
    if isinstance(image, Image):
        shared = record.id(columns["picture"]) if record.has(columns["picture"]) else ""
        return (image,), shared or f"{image.path.name}[{image.row}]"
    if image is not None:
        name = record.filled(columns["image"])
        return source.image(folders[0], name), name
    if record.has(columns["video"]):
        name = record.filled(columns["video"])
        start, end = (record.number(columns[r]) if record.has(columns[r]) else None for r in ("start", "end"))
        return source.clip(folders[1], (name,), start, end), f"{name}_{start}_{end}"
    record.problem(columns["image"], "there is neither a picture nor a clip.")
    return (), ""
