"""Predictions of any program -> Predictions aligned with a split. Forms of files: prediction_forms.py.

The keys of ids and answers are chosen for the whole file: the id by the split's own ids, the answer by the names below.
The output names both. Text is not changed: cleaning generated text is the author's job, cleaning for a scorer is part
of the metric. Answers to close-ended queries may be scores, ranks, or the best candidate as its text, letter or index
(from 0), unless that is ambiguous (prediction_choices.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flamingo_eval.config.specs import TaskSpec
from flamingo_eval.errors import PredictionError, Problem, did_you_mean, problems_in
from flamingo_eval.metrics import metric_row
from flamingo_eval.records import Example, Prediction, Split
from flamingo_eval.runs.orders import averaged_orders
from flamingo_eval.runs.prediction_choices import RESPONSES, SCORE_KEYS, choices_of, is_one_text, scores_of
from flamingo_eval.runs.prediction_forms import Row, read_rows
from flamingo_eval.runs.prediction_ids import ID_KEYS, ids_of

TEXT_KEYS = (  # what was predicted comes before `answer` and `text`, which in logs may be the right answer
    "prediction", "filtered_resps", "resps",
    "pred", "predicted_answer", "pred_answer", "model_answer", "response", "output",
    "generated_text", "answer", "caption", "text",
)  # fmt: skip
DOC = "doc"  # per-sample logs keep the data set's row under this key
LOG_KEYS = ("doc_id", "filter", "filtered_resps", "resps", "prediction", "pred", "response", "output")
SHOWN = 5
PARTIAL_NOTE = "queries"  # key of the note of a score over some of the queries


@dataclass(frozen=True, slots=True)
class PredictionFile:
    """Predictions with their examples, in the split's order, and how they were read."""

    predictions: tuple[Prediction, ...]
    examples: tuple[Example, ...]
    of: int  # number of queries to answer
    form: str  # for the user
    passed_over: int = 0  # answers to other queries, skipped
    shots: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # query -> its shots, if a line has them

    @property
    def partial(self) -> str:
        """The note for every number; "" if every query is answered."""
        n = len(self.predictions)
        return f"partial: {n:,} of {self.of:,} queries are answered and scored" if n < self.of else ""


def read_predictions(
    path: Path,
    task: TaskSpec,
    split: Split,
    *,
    partial: bool = False,
    queries: Iterable[str] | None = None,
    only: Mapping[str, Any] | None = None,
) -> PredictionFile:
    """The predictions of a file for the queries of a split (or for those named in `queries`).

    `only`: use only lines of `flamingo-eval export` with these values (one run of several).

    Raises PredictionError with every problem: broken lines, unknown, duplicate and missing ids, invalid answers.
    Answers to other queries are skipped if every query has one; missing ones are an error unless `partial`.
    """
    query_ids = set(queries) if queries is not None else None
    examples = {e.id: e for e in split.examples if query_ids is None or e.id in query_ids}
    other_ids = {e.id for e in split.examples} - examples.keys()
    file = read_rows(path, example_line(task))
    kept_rows = [row for row in file.rows if not is_exported(row.values) or _has(row.values, only or {})]
    if not kept_rows:
        raise PredictionError(f"{path}: no line matches the run {dict(only or {})}.")
    kept_rows = averaged_orders(kept_rows, path)
    rows = [Row(_flat(row.values), row.line, row.entry) for row in kept_rows]
    id_key, ids = ids_of(rows, examples, other_ids, path)
    problems: list[Problem] = []
    row_of, other_rows, n_failed = _matched(rows, ids, examples, other_ids, path, problems)
    unknown = [(row, id) for row, id in other_rows if id not in other_ids]
    missing = [id for id in examples if id not in row_of]
    if unknown and missing and not (partial and row_of):
        problems += [_unknown(row, id, examples, split, path) for row, id in unknown]
    predictions, source = _predictions(row_of, examples, task, split, path, problems)
    if missing and not problems and not (partial and row_of):
        problems.append(_missing(missing, len(examples), n_failed, split, path))
    if problems:
        raise problems_in(path, problems, PredictionError)
    form = file.form if file.is_map else f"{file.form}: ids from '{id_key}', {source}"
    if other_rows:
        form += f"; {len(other_rows):,} answers to other queries are skipped"
    answered_examples = tuple(e for id, e in examples.items() if id in row_of)
    shots = {id: tuple(map(str, row.values["shot_ids"])) for id, row in row_of.items() if is_exported(row.values)}
    return PredictionFile(
        tuple(predictions[e.id] for e in answered_examples),
        answered_examples,
        len(examples),
        form,
        len(other_rows),
        shots,
    )


def is_exported(values: Mapping[str, Any]) -> bool:
    """Whether a row is a line of `flamingo-eval export`, with an answer added."""
    return isinstance(values.get("shot_ids"), list) and type(values.get("shots")) is int


def _has(values: Mapping[str, Any], selection: Mapping[str, Any]) -> bool:
    return all(values.get(key) == value for key, value in selection.items())


def example_line(task: TaskSpec) -> str:
    """A line of our own form, for messages."""
    if task.mode == "open-ended":
        return '{"id": "1", "prediction": "a cat"}'
    return '{"id": "1", "scores": [-1.5, -0.3]}'


def _flat(values: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of a per-sample log together with those of the data set's row in it."""
    doc = values.get(DOC)
    if not isinstance(doc, dict):
        return dict(values)
    log_values = {k: v for k, v in values.items() if k in LOG_KEYS}
    return {**{k: v for k, v in doc.items() if k in ID_KEYS}, **log_values}


def _matched(
    rows: Sequence[Row],
    ids: Sequence[str | None],
    examples: Mapping[str, Example],
    other_ids: set[str],
    path: Path,
    problems: list[Problem],
) -> tuple[dict[str, Row], list[tuple[Row, str]], int]:
    """Rows by the query they answer, rows of other queries, and the number of queries that failed."""
    row_of: dict[str, Row] = {}
    other_rows: list[tuple[Row, str]] = []
    n_failed = 0
    filters = list(dict.fromkeys(str(row.values["filter"]) for row in rows if "filter" in row.values))
    if len(filters) > 1:
        filter_name = "none" if "none" in filters else ""
        if not filter_name:
            what = f"the log has every query with several filters: {', '.join(filters)}."
            problems.append(Problem(what, path, fix="Keep the lines of one of them."))
            return row_of, other_rows, n_failed
        pairs = [(r, i) for r, i in zip(rows, ids, strict=True) if r.values.get("filter") == filter_name]
        rows, ids = [r for r, _ in pairs], [i for _, i in pairs]
    for row, id in zip(rows, ids, strict=True):
        if id is None:
            keys = ", ".join(f"'{k}'" for k in list(row.values)[:12])
            problems.append(row.problem(f"the id is missing, or neither text nor an integer; keys: {keys}.", path))
        elif id not in examples:
            other_rows.append((row, id))
        elif row.values.get("error") and "tokens" in row.values:  # a run's own record of a query that failed
            n_failed += 1
        elif id in row_of and dict(row_of[id].values) != dict(row.values):
            first = row_of[id].line or row_of[id].entry
            where = f"line {first}" if row_of[id].line else str(first)
            problems.append(row.problem(f"duplicate id '{id}': {where} has another answer.", path))
        else:
            row_of[id] = row
    return row_of, other_rows, n_failed


def _unknown(row: Row, id: str, examples: Mapping[str, Example], split: Split, path: Path) -> Problem:
    hint = did_you_mean(id, list(examples)[:20000])
    return row.problem(f"unknown id '{id[:80]}': split '{split.name}' has no such query. {hint}".rstrip(), path)


def _missing(missing: Sequence[str], n: int, n_failed: int, split: Split, path: Path) -> Problem:
    first_ids = ", ".join(f"'{m}'" for m in missing[:SHOWN]) + (", ..." if len(missing) > SHOWN else "")
    why = f" ({n_failed} of them failed in the run that wrote the file)" if n_failed else ""
    return Problem(
        f"{len(missing):,} of {n:,} queries of split '{split.name}' have no prediction{why}: {first_ids}.",
        path,
        fix="Answer every query (an empty text is an answer), or score the answered ones with --partial.",
    )


# --------------------------------------------------------------------------------------------------------- answers


def _predictions(
    row_of: Mapping[str, Row],
    examples: Mapping[str, Example],
    task: TaskSpec,
    split: Split,
    path: Path,
    problems: list[Problem],
) -> tuple[dict[str, Prediction], str]:
    """The predictions by id, and a description of how they were read."""
    rows = list(row_of.values())
    if not rows:
        return {}, ""
    if task.mode == "open-ended":
        return _texts(row_of, path, problems)
    key = _first_key(rows, SCORE_KEYS)
    if key is not None and not (key in RESPONSES and is_one_text(rows[0].values.get(key))):
        candidates = {id: len(examples[id].candidates or split.candidates) for id in row_of}
        return scores_of(row_of, key, candidates, path, problems)
    need_scores = [m.name for m in task.metrics if not metric_row(m.name).best_suffices]
    if need_scores:
        what = f"{need_scores[0]} needs a score of every candidate, and the file has no scores."
        fix = f"Expected lines like {example_line(task)}, one number per candidate."
        problems.append(Problem(what, path, fix=fix))
        return {}, ""
    key = _first_key(rows, ("best", *TEXT_KEYS))
    if key is None:
        problems.append(_no_answer(rows[0], (*SCORE_KEYS, *TEXT_KEYS), path))
        return {}, ""
    names = {id: examples[id].candidates or split.candidates for id in row_of}
    return choices_of(row_of, key, names, path, problems)


def _first_key(rows: Sequence[Row], keys: Sequence[str]) -> str | None:
    """The first of these keys in the rows; a key that every row has comes before others."""
    for least in (len(rows), 1):
        for key in keys:
            if sum(row.values.get(key) is not None for row in rows) >= least:
                return key
    return None


def _no_answer(row: Row, keys: Sequence[str], path: Path) -> Problem:
    empty = next((k for k in keys if k in row.values), "")
    if empty:
        return row.problem(
            f"'{empty}' is null, and no other entry has an answer.", path, 'An empty answer is written "".'
        )
    names = [k for k in row.values if k not in ID_KEYS]
    hint = next((h for k in names if (h := did_you_mean(k, keys))), "")
    what = f"no key has an answer; the keys are {', '.join(repr(k) for k in row.values)}. {hint}".rstrip()
    return row.problem(what, path)


def _texts(row_of: Mapping[str, Row], path: Path, problems: list[Problem]) -> tuple[dict[str, Prediction], str]:
    key = _first_key(list(row_of.values()), TEXT_KEYS)
    if key is None:
        problems.append(_no_answer(next(iter(row_of.values())), TEXT_KEYS, path))
        return {}, ""
    predictions: dict[str, Prediction] = {}
    for id, row in row_of.items():
        value = row.values.get(key)
        while isinstance(value, list) and len(value) == 1:  # harnesses keep a list of one text for each request
            value = value[0]
        if key not in row.values:
            problems.append(row.problem(f"key '{key}' is missing.", path))
        elif not isinstance(value, str):
            problems.append(row.problem(f"{key} of '{id}' must be a text.", path))
        else:
            predictions[id] = Prediction(id, text=value)
    return predictions, f"answers from '{key}'"
