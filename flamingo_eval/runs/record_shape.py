"""Is a record what this program writes? Types of run.json and scores.json, checked where they are read.

Only keys that are there are checked, but for those no table can be without: records of earlier versions lack some.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

Check = Callable[[Any], bool]


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _whole(value: Any) -> bool:
    return type(value) is int and abs(value) < 2**53


def _number(value: Any) -> bool:
    return (type(value) is int and abs(value) < 2**53) or (type(value) is float and math.isfinite(value))


def _maybe_number(value: Any) -> bool:
    return value is None or _number(value)


def _interval(value: Any) -> bool:
    return value is None or (isinstance(value, list) and len(value) == 2 and all(map(_number, value)))


def _map_of(check: Check) -> Check:
    return lambda value: isinstance(value, dict) and all(map(check, value.values()))


def _object(value: Any) -> bool:
    return isinstance(value, dict)


_SCORES: Mapping[str, Check] = dict.fromkeys(("task", "split", "model", "protocol", "demos", "ablation"), _text) | {
    "shots": _whole,
    "seed": _whole,
}
_SCORE: Mapping[str, Check] = {
    "metric": _text,
    "value": _maybe_number,
    "n": _whole,
    "n_failed": _whole,
    "ci95": _interval,
    "why_undefined": _text,
    "unscored": lambda value: isinstance(value, bool),
    "breakdown": _map_of(_maybe_number),
    "notes": _map_of(_text),
    "draws": lambda value: isinstance(value, list) and all(map(_maybe_number, value)),
}
_REQUIRED = ("metric", "value", "n")
_RUN: Mapping[str, Check] = {
    "status": _text,
    "fingerprint": _text,
    "task": _text,
    "spec": _object,
    "settings": _object,
    "provenance": _object,
    "inputs": _map_of(_text),
    "counts": _map_of(_whole),
    "timings": _map_of(_maybe_number),
    "engine": _object,
}
_PROVENANCE: Mapping[str, Check] = {
    **dict.fromkeys(("flamingo_eval", "python", "platform", "device", "dtype"), _text),
    "packages": _map_of(_text),
}


def scores_problem(value: Mapping[str, Any]) -> str:
    """What is wrong with a scores.json, the empty string if nothing is."""
    if missing := [key for key in (*_SCORES, "scores") if key not in value]:
        return f"key '{missing[0]}' is missing"
    if what := _wrong(value, _SCORES) or _unwritable(value):
        return what
    scores = value["scores"]
    if not isinstance(scores, list) or not scores or not all(isinstance(score, dict) for score in scores):
        return "scores: expected a list of scores"
    for i, score in enumerate(scores):
        if missing := [key for key in _REQUIRED if key not in score]:
            return f"scores[{i}]: key '{missing[0]}' is missing"
        if what := _wrong(score, _SCORE):
            return f"scores[{i}].{what}"
    return ""


def run_problem(value: Mapping[str, Any]) -> str:
    """What is wrong with a run.json, the empty string if nothing is."""
    return _wrong(value, _RUN) or _wrong(value.get("provenance", {}), _PROVENANCE) or _unwritable(value)


def _wrong(value: Mapping[str, Any], checks: Mapping[str, Check]) -> str:
    wrong = [key for key, check in checks.items() if key in value and not check(value[key])]
    return f"{wrong[0]}: not what this program writes" if wrong else ""


def _unwritable(value: Mapping[str, Any]) -> str:
    """A text with half a surrogate pair could be read, but put into no report."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return "a text holds half a surrogate pair, which is no character"
    return ""
