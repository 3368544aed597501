"""Which runs share a row of a table: those that differ in nothing but shots and seed.

Task, split, metric, model, protocol, choice of shots and ablation name a row. Whatever else differs among runs of that
name (the limit, the support size, the weights, the data) splits the row, and is written beside its parts: a mean over
`seeds` must not be one over other things.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from flamingo_eval.runs.folder import RunFolder, flat_keys, read_json, within

RowKey: TypeAlias = tuple[str, str, str, str, str, str, str, str]

# Of the record's spec: named by the row or its columns; spelled out elsewhere, resolved (results.SPELLED_OUT) or among
# the inputs; of no effect on a score that is there.
NAMED = ("split", "model", "demos.method", "demos.shots", "demos.seed", "ablation")
TWICE = ("task.decode", "task.rank", "prompt.decode", "prompt.rank", "prompt.text_only_shots", "model_sha256")
UNWRITTEN = {"rank.wanted": "all"}  # what a record leaves out (results.spec_json)
NO_EFFECT = ("data", "on_error", "task.title", "task.notes", "prompt.notes", "protocol.title", "protocol.notes")
LONGEST = 24  # characters of a value in a row's name; longer ones go by their digest
MOST_WORDS = 3


@dataclass(frozen=True, slots=True)
class Recorded:
    """A complete run as tables need it."""

    folder: RunFolder
    scores: Mapping[str, Any]
    run: Mapping[str, Any]


def rows_of(folders: Sequence[RunFolder]) -> dict[RowKey, list[Recorded]]:
    """The runs of each row, by its sorted key, whose last word says what tells it from others of its name.

    The same run given twice counts once; a repetition with other scores gets a row of its own.
    """
    named: dict[tuple[str, ...], list[Recorded]] = {}
    for folder in folders:
        record = Recorded(folder, read_json(folder.scores), read_json(folder.run))
        named.setdefault(_name(record.scores), []).append(record)
    rows: dict[RowKey, list[Recorded]] = {}
    for name in sorted(named):
        for words, records in _parts(named[name]):
            task, split, metric, model, protocol, demos, ablation = name
            rows[task, split, metric, model, protocol, demos, ablation, words] = records
    return rows


def _name(scores: Mapping[str, Any]) -> tuple[str, ...]:
    s = scores
    return (s["task"], s["split"], s["scores"][0]["metric"], s["model"], s["protocol"], s["demos"], s["ablation"])


def _parts(records: Sequence[Recorded]) -> Iterator[tuple[str, list[Recorded]]]:
    """The runs that differ in shots and seed alone, and what tells them from the others ("" if there are none)."""
    settings = [_settings(record.run) for record in records]
    alike: dict[str, list[int]] = {}
    for i, found in enumerate(settings):
        alike.setdefault(json.dumps(found, sort_keys=True), []).append(i)
    first = [settings[members[0]] for members in alike.values()]
    keys = [k for k in dict.fromkeys(k for s in first for k in s) if len({_word(s.get(k)) for s in first}) > 1]
    taken: dict[str, int] = {}
    for members, found in zip(alike.values(), first, strict=True):
        words = [f"{_short_key(k)} {_word(found.get(k))}" for k in keys[:MOST_WORDS]]
        words += [f"and {len(keys) - MOST_WORDS} more"] if len(keys) > MOST_WORDS else []
        for repetition in _repetitions([records[i] for i in members]):
            text = ", ".join(words)
            taken[text] = taken.get(text, 0) + 1
            yield (text if taken[text] == 1 else f"{text}, record {taken[text]}".removeprefix(", ")), repetition


def _repetitions(records: Sequence[Recorded]) -> list[list[Recorded]]:
    """Runs of one setting, such that no list holds the same shots and seed twice; equal records count once."""
    lists: list[dict[tuple[int, int], Recorded]] = []
    for record in records:
        place = (record.scores["shots"], record.scores["seed"])
        for found in lists:
            if place not in found or found[place].scores == record.scores:
                found.setdefault(place, record)
                break
        else:
            lists.append({place: record})
    return [list(found.values()) for found in lists]


def _settings(run: Mapping[str, Any]) -> dict[str, Any]:
    """What decides a run's scores beside its row's name, shots and seed, as flat keys."""
    spec = UNWRITTEN | dict(flat_keys("", run.get("spec", {})))
    left = {k: v for k, v in spec.items() if not within(k, (*NAMED, *TWICE))}
    return {k: v for k, v in left.items() if k not in NO_EFFECT} | _inputs(run)


def _inputs(run: Mapping[str, Any]) -> dict[str, Any]:
    inputs = dict(run.get("inputs", {}))
    weights = inputs.pop("checkpoint", None)
    return {"weights": weights, "data": _digest(inputs)}


def _short_key(key: str) -> str:
    return key.rsplit(".", 1)[-1]


def _word(value: Any) -> str:
    """A value in a row's name."""
    text = "none" if value is None else value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    return text if len(text) <= LONGEST else _digest(text)


def _digest(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    is_digest = len(text) == 64 and all(c in "0123456789abcdef" for c in text)
    return (text if is_digest else hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest())[:8]
