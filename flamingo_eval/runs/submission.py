"""Files for evaluation servers: a split whose answers are not public gives a submission instead of a score.

FORMATS is the table. Answers are written as predicted; servers do their own cleaning. The predictions must be exactly
those of the split's queries.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from flamingo_eval.config.specs import TaskSpec
from flamingo_eval.data.layouts.star import TYPES
from flamingo_eval.errors import PredictionError, Problem, UsageError
from flamingo_eval.files import write_atomically
from flamingo_eval.records import Example, Prediction, Split

Answer = tuple[Example, Prediction]


def write_submission(
    task: TaskSpec, split: Split, predictions: Sequence[Prediction], path: Path, unanswered: Split | None = None
) -> Path:
    """Write the file for the benchmark's server, atomically; returns its path.

    `unanswered`: a larger split whose other queries are answered with "" (VQAv2's server wants all of test, also for
    the test-dev phase).

    Raises UsageError for a benchmark without a server, PredictionError for missing, unknown or wrong predictions.
    """
    if task.data.layout not in FORMATS:
        layouts = ", ".join(sorted(FORMATS))
        raise UsageError(
            f"{task.name}: no known format of an evaluation server for split '{split.name}'.",
            fix=f"Layouts with a known format: {layouts}.",
        )
    answers = _paired(task, split, predictions)
    if unanswered is not None:
        ids = {e.id for e in split.examples}
        answers += [(e, Prediction(e.id, "")) for e in unanswered.examples if e.id not in ids]
    value = FORMATS[task.data.layout](answers)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(value, ensure_ascii=False))
    return path


def _paired(task: TaskSpec, split: Split, predictions: Sequence[Prediction]) -> list[Answer]:
    """Examples with their predictions, in the split's order."""
    by_id = {p.id: p for p in predictions}
    ids = {e.id for e in split.examples}
    problems = [Problem(f"'{p.id}' is not in split '{split.name}'.") for p in predictions if p.id not in ids]
    for example in split.examples:
        prediction = by_id.get(example.id)
        if prediction is None:
            problems.append(Problem(f"'{example.id}' has no prediction."))
        elif task.mode == "open-ended" and prediction.text is None:
            problems.append(Problem(f"'{example.id}' has no text."))
        elif task.mode == "close-ended":
            n = len(example.candidates or split.candidates)
            alone = task.data.layout in BEST_SUFFICES and (prediction.best is not None or prediction.text is not None)
            if not alone and len(prediction.scores or ()) != n:
                problems.append(Problem(f"'{example.id}' needs {n} scores."))
    if problems:
        raise PredictionError(f"{task.name}, split '{split.name}': {len(problems)} problems", problems)
    return [(example, by_id[example.id]) for example in split.examples]


def _number(id: str) -> int | str:
    """A number if the official files use numbers, as servers require."""
    return int(id) if id.isdecimal() else id


def _vqa(answers: Sequence[Answer]) -> object:
    """VQAv2 and TextVQA."""
    return [{"question_id": _number(e.id), "answer": p.text} for e, p in answers]


def _vizwiz(answers: Sequence[Answer]) -> object:
    return [{"image": e.id, "answer": p.text} for e, p in answers]


def _captions(answers: Sequence[Answer]) -> object:
    """NoCaps, TextCaps."""
    return [{"image_id": _number(e.id), "caption": p.text} for e, p in answers]


def _gqa(answers: Sequence[Answer]) -> object:
    return [{"questionId": e.id, "prediction": p.text} for e, p in answers]


def _visdial(answers: Sequence[Answer]) -> object:
    """`ranks[j]` is the rank of option j, 1 the best; ties go to the lower option."""
    return [
        {"image_id": _number(e.id), "round_id": e.labels["round_id"], "ranks": ranks(p.scores or ())}
        for e, p in answers
    ]


def ranks(scores: Sequence[float]) -> list[int]:
    """Rank of each candidate, 1 for the highest score; of equal scores the lower index comes first."""
    order = sorted(range(len(scores)), key=lambda i: (-scores[i], i))
    rank_of = [0] * len(scores)
    for rank, index in enumerate(order, start=1):
        rank_of[index] = rank
    return rank_of


def _star(answers: Sequence[Answer]) -> object:
    """By question type; `answer` is the index of the choice, -1 for an answer without a letter (`--rank letter`)."""
    rows = [(str(e.labels["question_type"]), e.id, -1 if p.chosen is None else p.chosen) for e, p in answers]
    return {kind: [{"question_id": id, "answer": index} for k, id, index in rows if k == kind] for kind in TYPES}


FORMATS: Mapping[str, Callable[[Sequence[Answer]], object]] = {
    "vqa": _vqa,
    "textvqa": _vqa,
    "vizwiz": _vizwiz,
    "coco_style": _captions,
    "textcaps": _captions,
    "gqa": _gqa,
    "visdial": _visdial,
    "star": _star,
}
BEST_SUFFICES = ("star",)  # layouts whose file has only the best candidate
