"""The ids of predictions: which key has them, and the split's own spelling of each."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from flamingo_eval.errors import PredictionError, did_you_mean, problems_in
from flamingo_eval.records import Example
from flamingo_eval.runs.prediction_forms import Row

ID_KEYS = (
    "id", "question_id", "questionId", "image_id", "image", "video_id", "videoID", "video", "sample_id", "qid", "uid",
    "filename", "file_name", "index", "doc_id",
)  # fmt: skip


def ids_of(
    rows: Sequence[Row], examples: Mapping[str, Example], other_ids: set[str], path: Path
) -> tuple[str, list[str | None]]:
    """The key of the ids, and every row's id in the split's spelling; None for a row without an id.

    It is the key that matches most queries of the split; ties go to the first in ID_KEYS. `doc_id` is only an index
    into some order of the data, so it counts only if there is no other key and every id matches.
    """
    split_ids = {**{id: id for id in other_ids}, **{id: id for id in examples}}
    aliases = _aliases(split_ids)
    keys_present = [key for key in ID_KEYS if any(key in row.values for row in rows)]
    best: tuple[int, str, list[str | None]] | None = None
    for key in keys_present:
        raw_ids = [_as_id(row.values.get(key)) for row in rows]
        for ids in (raw_ids, [None if id is None else aliases.get(_plain(id), id) for id in raw_ids]):
            n = len({id for id in ids if id in split_ids})
            if key == "doc_id" and (len(keys_present) > 1 or n < len(set(raw_ids))):
                n = 0
            if best is None or n > best[0]:
                best = (n, key, ids)
    if best is None or (best[1] == "doc_id" and best[0] == 0):
        keys = ", ".join(f"'{k}'" for k in list(rows[0].values)[:12])
        hint = next((h for k in rows[0].values if (h := did_you_mean(k, ID_KEYS))), "")
        fix = f"Known keys of ids: {', '.join(ID_KEYS[:-1])}."
        what = f"no key has the queries' ids; the keys are {keys}. {hint}".rstrip()
        raise problems_in(path, [rows[0].problem(what, path, fix)], PredictionError)
    return best[1], best[2]


def _as_id(value: Any) -> str | None:
    """Ids are text or integers."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value if isinstance(value, str) else None


_COCO_NAME = re.compile(r"(?:COCO_\w+_)?0*(\d+)")


_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".mp4", ".avi", ".mkv", ".webm")


def _plain(id: str) -> str:
    """A file name's stem; the number of a COCO picture's name or of one with leading zeros."""
    name = PurePosixPath(id.strip()).name or id
    stem = name[: name.rindex(".")] if name.lower().endswith(_SUFFIXES) else name
    number = _COCO_NAME.fullmatch(stem)
    return number[1] if number else stem


def _aliases(split_ids: Iterable[str]) -> dict[str, str]:
    """Plain form of an id -> the id, if it is the only id with that form."""
    ids_by_plain: dict[str, list[str]] = {}
    for id in split_ids:
        ids_by_plain.setdefault(_plain(id), []).append(id)
    return {plain: ids[0] for plain, ids in ids_by_plain.items() if len(ids) == 1}
