"""Other programs' answers to close-ended queries -> Predictions with scores or a best candidate."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from flamingo_eval.errors import Problem
from flamingo_eval.records import Best, Prediction
from flamingo_eval.runs.prediction_forms import Row

RESPONSES = ("filtered_resps", "resps")  # of the harnesses' logs: a text, or a log-likelihood a candidate
SCORE_KEYS = ("scores", "ranks", "logprobs", "log_likelihoods", "proba", *RESPONSES)
LETTER = re.compile(r"\(?([A-Za-z])[).:]?")
Predictions = tuple[dict[str, Prediction], str]


def is_one_text(value: Any) -> bool:
    """Whether a harness's response is one generated text, not a list of log-likelihoods."""
    return isinstance(_single(value), str)


def scores_of(
    rows: Mapping[str, Row], key: str, candidates: Mapping[str, int], path: Path, problems: list[Problem]
) -> Predictions:
    """Scores of every candidate: lists of numbers, ranks (1 the best), P(yes), or a harness's log-likelihoods."""
    parse = {"ranks": _ranks, "proba": _probability}.get(key, _scores)
    predictions: dict[str, Prediction] = {}
    for id, row in rows.items():
        value = row.values.get(key)
        scores = parse(value, candidates[id])
        if isinstance(scores, str):
            problems.append(row.problem(f"{key} of '{id}' {scores}", path))
        else:
            predictions[id] = Prediction(id, scores=scores)
    names = {"ranks": "ranks of the candidates", "proba": "probabilities of the second candidate"}
    return predictions, f"{names.get(key, 'scores of the candidates')} from '{key}'"


def _scores(value: Any, n: int) -> tuple[float, ...] | str:
    if not isinstance(value, list):
        return "must be a list of numbers."
    numbers = []
    for entry in value:
        while _is_response(entry):
            entry = entry[0]
        number = _number(entry)
        if number is None:
            return "must be a list of numbers."
        numbers.append(number)
    return tuple(numbers) if len(numbers) == n else f"has {len(numbers)} scores, but there are {n} candidates."


def _is_response(entry: Any) -> bool:
    """Whether it is a harness's (log-likelihood, is it greedy), or a list of one; our own logs leave the flag null."""
    if not isinstance(entry, list) or not 1 <= len(entry) <= 2:
        return False
    return len(entry) == 1 or entry[1] is None or isinstance(entry[1], bool) or entry[1] in ("True", "False")


def _number(value: Any) -> float | None:
    """A score; None for NaN, for anything that is not a number, or too large for a float. Minus infinity is a score."""
    try:
        number = float(value) if isinstance(value, (int, float, str)) and not isinstance(value, bool) else math.nan
    except (ValueError, OverflowError):
        return None
    return None if math.isnan(number) else number


def _ranks(value: Any, n: int) -> tuple[float, ...] | str:
    is_integers = isinstance(value, list) and all(type(v) is int for v in value)
    if not is_integers or sorted(value) != list(range(1, n + 1)):
        return f"must be the numbers 1 to {n}, each once: the rank of every candidate."
    return tuple(float(-v) for v in value)


def _probability(value: Any, n: int) -> tuple[float, ...] | str:
    number = _number(value)
    if n != 2 or number is None or not 0 <= number <= 1:
        return "must be the probability, 0 to 1, of the second of two candidates."
    return 1 - number, number


def choices_of(
    rows: Mapping[str, Row], key: str, names: Mapping[str, Sequence[str]], path: Path, problems: list[Problem]
) -> Predictions:
    """The best candidate of every query as its text, letter or index (from 0), read in one way for the whole file.

    If two readings fit every answer but disagree about one, the file is ambiguous, which is an error.
    """
    values = {id: _single(row.values.get(key)) for id, row in rows.items()}
    readings: dict[str, dict[str, int]] = {}
    misfits: dict[str, str] = {}
    for name, parse in READINGS.items():
        choices = {id: parse(value, names[id]) for id, value in values.items()}
        misfit = next((id for id, c in choices.items() if c is None), None)
        if misfit is None:
            readings[name] = {id: c for id, c in choices.items() if c is not None}
        else:
            misfits[name] = misfit
    if not readings:
        closest = min(misfits, key=lambda name: sum(READINGS[name](v, names[id]) is None for id, v in values.items()))
        for id, value in values.items():
            if READINGS[closest](value, names[id]) is None:
                listing = ", ".join(f"'{c}'" for c in names[id][:8]) + (", ..." if len(names[id]) > 8 else "")
                what = f"{key} of '{id}' is not the {closest} of one candidate: {str(value)[:60]!r}. Known: {listing}."
                problems.append(rows[id].problem(what, path))
        return {}, ""
    first, *other_readings = readings
    for other in other_readings:
        differ = next((id for id in values if readings[first][id] != readings[other][id]), None)
        if differ is not None:
            what = f"{key} of '{differ}', {str(values[differ])[:60]!r}, is ambiguous: {first} or {other}."
            problems.append(rows[differ].problem(f"{what} Write the scores of all candidates instead.", path))
            return {}, ""
    predictions = {id: Prediction(id, best=Best(index, 0.0)) for id, index in readings[first].items()}
    return predictions, f"the best candidate's {first} from '{key}'"


def _single(value: Any) -> Any:
    """The value in a list of one; the candidate in a run's own `best`."""
    while isinstance(value, list) and len(value) == 1:
        value = value[0]
    return value.get("candidate") if isinstance(value, dict) else value


def _by_text(value: Any, names: Sequence[str]) -> int | None:
    if not isinstance(value, str):
        return None
    for fold in (str, _folded):
        indices = [i for i, name in enumerate(names) if fold(name) == fold(value)]
        if indices:
            return indices[0] if len(indices) == 1 else None
    return None


def _folded(text: str) -> str:
    return text.strip().rstrip(".").casefold()


def _by_letter(value: Any, names: Sequence[str]) -> int | None:
    letter = LETTER.fullmatch(value.strip()) if isinstance(value, str) else None
    index = ord(letter[1].upper()) - ord("A") if letter else len(names)
    return index if index < len(names) else None


def _by_index(value: Any, names: Sequence[str]) -> int | None:
    digits = isinstance(value, str) and value.strip().isdecimal()
    if not digits and (not isinstance(value, int) or isinstance(value, bool)):
        return None
    return int(value) if 0 <= int(value) < len(names) else None


READINGS: Mapping[str, Callable[[Any, Sequence[str]], int | None]] = {
    "text": _by_text,
    "letter": _by_letter,
    "index": _by_index,
}
