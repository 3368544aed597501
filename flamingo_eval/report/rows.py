"""Which runs share a row of a table: those that differ only in shots and seed.

Task, split, metric, model, protocol, choice of shots and ablation name a row. Any other difference between runs of that
name (the limit, the support size, the weights, the data) splits the row and is part of the label: a mean over seeds
must not be a mean over other settings.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from flamingo_eval.metrics.bootstrap import Draws
from flamingo_eval.records import Score
from flamingo_eval.runs.draws import draws_of
from flamingo_eval.runs.folder import RunFolder, read_outputs
from flamingo_eval.runs.identity import row_settings
from flamingo_eval.runs.record import CHECKPOINT, RunRecord, ScoresRecord, read_run, read_scores

RowKey: TypeAlias = tuple[str, str, str, str, str, str, str, str]

LONGEST = 24  # characters of a value in a row's name; longer ones go by their digest
MOST_WORDS = 3


@dataclass(frozen=True, slots=True)
class Recorded:
    """A complete run as tables need it."""

    folder: RunFolder
    scores: ScoresRecord
    run: RunRecord

    def draws(self, metric: str) -> Draws:
        """The bootstrap draws of one of its scores."""
        index = next(i for i, score in enumerate(self.scores.scores) if score.metric == metric)
        if self.scores.scores[index].draws or index > 0:
            return self.scores.scores[index].draws
        return draws_of(self.scores.scores, index, read_outputs(self.folder.outputs)[0])


def rows_of(folders: Sequence[RunFolder]) -> dict[RowKey, list[Recorded]]:
    """The runs of each row, by its sorted key, whose last word distinguishes it from others of the same name.

    A duplicate run counts once; a repetition with other scores gets a separate row.
    """
    by_name: dict[tuple[str, ...], list[Recorded]] = {}
    for folder in folders:
        record = Recorded(folder, read_scores(folder.scores), read_run(folder.run))
        by_name.setdefault(_name(record.scores), []).append(record)
    rows: dict[RowKey, list[Recorded]] = {}
    for name in sorted(by_name):
        for words, records in _parts(by_name[name]):
            task, split, metric, model, protocol, demos, ablation = name
            rows[task, split, metric, model, protocol, demos, ablation, words] = records
    return rows


def _name(scores: ScoresRecord) -> tuple[str, ...]:
    s = scores
    return (s.task, s.split, s.headline.metric, s.model, s.protocol, s.demos, s.ablation)


def _parts(records: Sequence[Recorded]) -> Iterator[tuple[str, list[Recorded]]]:
    """Groups of runs that differ only in shots and seed, with what distinguishes each ("" for a single one)."""
    settings = [_settings(record.run) for record in records]
    indices_of: dict[str, list[int]] = {}
    for i, differing in enumerate(settings):
        indices_of.setdefault(json.dumps(differing, sort_keys=True), []).append(i)
    first = [settings[members[0]] for members in indices_of.values()]
    keys = [k for k in dict.fromkeys(k for s in first for k in s) if len({_word(s.get(k)) for s in first}) > 1]
    counts: dict[str, int] = {}
    for members, differing in zip(indices_of.values(), first, strict=True):
        words = [f"{_short_key(k)} {_word(differing.get(k))}" for k in keys[:MOST_WORDS]]
        words += [f"and {len(keys) - MOST_WORDS} more"] if len(keys) > MOST_WORDS else []
        for repetition in _repetitions([records[i] for i in members]):
            text = ", ".join(words)
            counts[text] = counts.get(text, 0) + 1
            yield (text if counts[text] == 1 else f"{text}, record {counts[text]}".removeprefix(", ")), repetition


def _repetitions(records: Sequence[Recorded]) -> list[list[Recorded]]:
    """Lists of runs of one setting, without duplicate shots and seed in a list; equal records count once."""
    repetitions: list[dict[tuple[int, int], Recorded]] = []
    for record in records:
        key = (record.scores.shots, record.scores.seed)
        for by_key in repetitions:
            if key not in by_key or _numbers(by_key[key]) == _numbers(record):
                by_key.setdefault(key, record)
                break
        else:
            repetitions.append({key: record})
    return [list(by_key.values()) for by_key in repetitions]


def _numbers(record: Recorded) -> list[Score]:
    """The scores, for comparison; schemas store the draws in different places."""
    return [replace(score, draws=()) for score in record.scores.scores]


def _settings(run: RunRecord) -> dict[str, Any]:
    """The settings that decide a run's scores, except its row's name, shots and seed, as flat keys."""
    inputs = {"weights": run.inputs.get(CHECKPOINT), "data": _digest(sorted(run.files.values()))}
    return row_settings(run.spec) | inputs


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
