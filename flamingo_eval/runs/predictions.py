"""A predictions file -> Predictions aligned with a split: one JSON object a line, ids as strings.

{"id": ..., "prediction": "text"} for open-ended tasks, {"id": ..., "scores": [...]} for close-ended ones. Nothing is
cleaned here: cleaning generated text belongs to the run that wrote it; what a scorer cleans is part of the metric.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from flamingo_eval.config.specs import TaskSpec
from flamingo_eval.errors import PredictionError, Problem, did_you_mean, problems_in
from flamingo_eval.records import Example, Prediction, Split


def read_predictions(path: Path, task: TaskSpec, split: Split) -> tuple[list[Prediction], list[Example]]:
    """The predictions in the split's order, with their examples.

    Raises PredictionError with every problem: not JSON, wrong keys, unknown, repeated and missing ids, a wrong number
    of scores.
    """
    examples = {e.id: e for e in split.examples}
    found: dict[str, Prediction] = {}
    problems: list[Problem] = []
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise PredictionError(f"--predictions {path}: cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise PredictionError(f"--predictions {path}: not UTF-8 text (byte {error.start}).") from error
    lines = [(n, line) for n, line in enumerate(text.split("\n"), 1) if line.strip()]
    if not lines:
        raise PredictionError(f"--predictions {path}: the file is empty.", fix=f"One line a query: {_example(task)}")
    for n, line in lines:
        value, what = _prediction(line, task, examples, split)
        if value is None:
            problems.append(Problem(what, path, n))
        elif value.id in found:
            problems.append(Problem(f"id '{value.id}' stands here a second time.", path, n))
        else:
            found[value.id] = value
    missing = [id for id in examples if id not in found]
    if missing and not problems:
        shown = ", ".join(f"'{m}'" for m in missing[:5]) + (", ..." if len(missing) > 5 else "")
        problems.append(
            Problem(
                f"{len(missing)} of {len(examples)} queries of split '{split.name}' have no prediction: {shown}.",
                path,
                fix="Every query is scored; an empty prediction is a prediction.",
            )
        )
    if problems:
        raise problems_in(path, problems, PredictionError)
    return [found[id] for id in examples], list(split.examples)


def _example(task: TaskSpec) -> str:
    if task.mode == "open-ended":
        return '{"id": "1", "prediction": "a cat"}'
    return '{"id": "1", "scores": [-1.5, -0.3]}'


def _prediction(line: str, task: TaskSpec, examples: dict[str, Example], split: Split) -> tuple[Prediction | None, str]:
    """The prediction on a line, or None and what is wrong with it."""
    try:
        value: Any = json.loads(line, object_pairs_hook=_once)
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return None, "a text holds half a surrogate pair, which is no character."
    except (ValueError, RecursionError) as error:
        return None, f"not JSON: {error}."
    if not isinstance(value, dict):
        return None, f"expected an object like {_example(task)}."
    key = "prediction" if task.mode == "open-ended" else "scores"
    unknown = [k for k in value if k not in ("id", key)]
    if unknown:
        hint = did_you_mean(unknown[0], ("id", key))
        return None, f"unknown key '{unknown[0]}'. {hint or f'Keys here: id, {key}.'}"
    if "id" not in value or key not in value:
        return None, f"key '{'id' if 'id' not in value else key}' is missing; expected {_example(task)}."
    id = value["id"]
    if isinstance(id, int) and not isinstance(id, bool):
        id = str(id)
    if not isinstance(id, str):
        return None, "id must be a text."
    if id not in examples:
        hint = did_you_mean(id, list(examples)[:20000])
        return None, f"unknown id '{id}': split '{split.name}' has no such query. {hint}".rstrip()
    if key == "prediction":
        if not isinstance(value[key], str):
            return None, f"prediction of '{id}' must be a text."
        return Prediction(id, text=value[key]), ""
    return _scores(id, value[key], len(examples[id].candidates or split.candidates))


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose keys stand once each: of two predictions in one line neither is taken."""
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return value


def _scores(id: str, scores: Any, expected: int) -> tuple[Prediction | None, str]:
    numbers = isinstance(scores, list) and all(isinstance(s, (int, float)) and not isinstance(s, bool) for s in scores)
    if not numbers or any(_no_score(s) for s in scores):
        return None, f"scores of '{id}' must be a list of numbers."
    if len(scores) != expected:
        return None, f"'{id}' has {len(scores)} scores, but {expected} candidates."
    return Prediction(id, scores=tuple(float(s) for s in scores)), ""


def _no_score(number: float) -> bool:
    """NaN, or a whole number too large for a float; -Infinity is a score."""
    try:
        return math.isnan(number)
    except OverflowError:
        return True
