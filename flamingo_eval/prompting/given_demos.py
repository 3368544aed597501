"""Fixed demonstrations: from a file with the shots of each query, or from the draws that a benchmark prescribes.

A file has one JSON object per line, `{"id": query, "shots": [support ids in the order of the prompt]}`; other keys are
ignored, so the outputs.jsonl of a run is such a file. A prompt with n shots shows the first n.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from random import Random

from flamingo_eval.config.specs import DemoSpec, TaskSpec
from flamingo_eval.errors import DataError, Problem, UsageError, did_you_mean, problems_in
from flamingo_eval.files import JsonError, parse_json, read_text
from flamingo_eval.prompting.support import Given, brought, group_of
from flamingo_eval.records import Example, Split

Shots = Mapping[str, tuple[str, ...]]  # query id -> support ids, in the order of the prompt
NO_TEXT_ONLY = "--demos official: the benchmark prescribes no demonstrations without pictures at zero shots."
METHODS = ("file", "official")  # methods that need no support set


def file_digest(path: Path) -> str:
    """`sha256:...` of a demonstrations file, for records. Raises DataError if it cannot be read."""
    try:
        return f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
    except OSError as error:
        raise DataError(f"--demos-file {path}: cannot be read: {error.strerror}.") from error


def read_demos_file(path: Path, queries: Split, support: Split) -> Given:
    """The shots in a file. Raises DataError with all problems: invalid lines, unknown and duplicate ids."""
    lines = read_text(path, DataError).split("\n")
    known_queries = {e.id for e in queries.examples}
    known_shots = {e.id for e in support.examples}
    shots: dict[str, tuple[str, ...]] = {}
    problems: list[Problem] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        id, ids, problem = _entry(line)
        if not problem and id not in known_queries:
            problem = f"unknown query '{id}'. {did_you_mean(id, known_queries)}".rstrip()
        elif not problem and id in shots:
            problem = f"duplicate query '{id}'."
        elif not problem and (unknown := [s for s in ids if s not in known_shots]):
            problem = f"query '{id}': split '{support.name}' has no row '{unknown[0]}'."
        if problem:
            problems.append(Problem(problem, path, number))
        else:
            shots[id] = ids
    if problems:
        raise problems_in(path, problems, DataError)
    return _first_of(shots, str(path), known_of(support))


def recorded(shots: Shots, support: Split) -> Given:
    """The shots of a run from its record."""
    return _first_of(shots, "the record", known_of(support))


def known_of(support: Split) -> int:
    """Number of rows per shot of a support split: those of its first group."""
    groups = [group_of(e) for e in support.examples]
    return groups.count(groups[0]) if groups else 1


def _first_of(shots: Shots, place: str, rows_of_a_shot: int) -> Given:
    def given(query: Example, spec: DemoSpec) -> tuple[str, ...]:
        ways = query.labels.get("ways_shown")
        rows = spec.shots * (ways if isinstance(ways, int) else rows_of_a_shot)
        own = brought(query)
        rows = rows if own is None else min(rows, len(own))  # a query with fewer demonstrations shows all of them
        ids = shots.get(query.id)
        if ids is None:
            raise DataError(
                f"{place}: no shots for query '{query.id}'.", fix="Add the shots of every query of the run."
            )
        if len(ids) < rows:
            raise DataError(
                f"{place}: {spec.shots} shots requested, {rows} rows, but query '{query.id}' has {len(ids)}.",
                fix="Lower --shots, or list more rows.",
            )
        return ids[:rows]

    return given


def _entry(line: str) -> tuple[str, tuple[str, ...], str]:
    """Query id and shots of a line, and its problem, if any."""
    try:
        value = parse_json(line, "line")
    except JsonError as error:
        return "", (), f"{error.what}."
    if not isinstance(value, dict) or not isinstance(value.get("id"), str):
        return "", (), 'expected an object with a text "id", the query\'s.'
    ids = value.get("shots")
    if not isinstance(ids, list) or not all(isinstance(s, str) for s in ids):
        return "", (), f"query '{value['id']}': expected \"shots\", a list of ids."
    if len(set(ids)) < len(ids):
        return "", (), f"query '{value['id']}' has a duplicate row."
    return value["id"], tuple(ids), ""


def official_draws(task: TaskSpec, queries: Split, support: Split, shots: Sequence[int]) -> Given:
    """The demonstrations that a benchmark prescribes: VL-ICL's and ISEKAI's draws, SMMILE's rows in their order.

    Draws are those of the released code: one generator a seed, over the numbers of shots in order and all queries. They
    depend on which numbers of shots ran before, are not nested, and are there for a check against that code alone.
    Raises UsageError for a task that prescribes none.
    """
    if task.data.layout == "smmile":
        return _brought
    if task.data.layout == "isekai":
        return _shuffled_lists(queries, support, shots)
    if task.data.layout != "vl_icl":
        raise UsageError(f"--demos official: {task.name} prescribes no draws.", fix="Leave --demos out.")
    if task.data.options.get("shots") == "of_query":
        return _of_query(queries, support, shots)
    return _drawn_rows(task, queries, support, shots)


def _brought(query: Example, spec: DemoSpec) -> tuple[str, ...]:
    """SMMILE: the first rows of those that come with the query."""
    return (brought(query) or ())[: spec.shots]


def _shuffled_lists(queries: Split, support: Split, shots: Sequence[int]) -> Given:
    """ISEKAI: the first n of each list, all 2n shuffled."""
    lists: dict[str, dict[str, list[str]]] = {}
    for example in support.examples:
        lists.setdefault(str(example.labels["pool"]), {}).setdefault(example.answer, []).append(example.id)

    @cache
    def drawn(seed: int) -> Mapping[tuple[int, str], tuple[str, ...]]:
        rng = Random(seed)
        table: dict[tuple[int, str], tuple[str, ...]] = {}
        for n in shots:
            for query in queries.examples:
                ids = [id for of_name in lists[query.id].values() for id in of_name[:n]]
                rng.shuffle(ids)
                table[n, query.id] = tuple(ids)
        return table

    return _of_table(drawn, shots)


def _of_table(drawn: Callable[[int], Mapping[tuple[int, str], tuple[str, ...]]], shots: Sequence[int]) -> Given:
    """What a table of draws, by seed, gives each query at the numbers of shots that it was drawn for."""

    def given(query: Example, spec: DemoSpec) -> tuple[str, ...]:
        if spec.shots not in shots:
            raise UsageError(NO_TEXT_ONLY, fix="Use a protocol whose zero shots are bare, such as vl_icl.")
        return drawn(spec.seed)[spec.shots, query.id]

    return given


def _drawn_rows(task: TaskSpec, queries: Split, support: Split, shots: Sequence[int]) -> Given:
    """VL-ICL but for open_mi: a sample of the support rows, in its order."""
    groups: dict[str, list[str]] = {}
    for example in support.examples:
        groups.setdefault(group_of(example), []).append(example.id)
    rows = list(groups.values())

    @cache
    def drawn(seed: int) -> Mapping[tuple[int, str], tuple[str, ...]]:
        rng = Random(seed)
        table: dict[tuple[int, str], tuple[str, ...]] = {}
        for n in shots:
            for query in queries.examples:
                if n > len(rows):
                    raise UsageError(f"{task.name}: {n} shots requested, the support split has {len(rows)}.")
                table[n, query.id] = tuple(id for i in rng.sample(range(len(rows)), n) for id in rows[i])
        return table

    return _of_table(drawn, shots)


def official_again(task: TaskSpec, queries: Split, support: Split, shots: str) -> Given:
    """The official draws from a record's entry, `shots 0,1,2`."""
    return official_draws(task, queries, support, [int(n) for n in shots.removeprefix("shots ").split(",")])


def _of_query(queries: Split, support: Split, shots: Sequence[int]) -> Given:
    """open_mi: another class and a random order, drawn at zero shots too; then the pictures in order."""
    classes: dict[str, dict[str, list[str]]] = {}
    for example in support.examples:
        pool = classes.setdefault(str(example.labels["pool"]), {})
        pool.setdefault(example.answer, []).append(example.id)

    @cache
    def drawn(seed: int) -> Mapping[tuple[int, str], tuple[str, ...]]:
        rng = Random(seed)
        table: dict[tuple[int, str], tuple[str, ...]] = {}
        for n in shots:
            for query in queries.examples:
                classes_of_query = classes[query.id]
                other_class = rng.choice([name for name in classes_of_query if name != query.answer])
                order = (query.answer, other_class) if rng.choice([True, False]) else (other_class, query.answer)
                table[n, query.id] = tuple(
                    classes_of_query[name][i] for i in range(n) for name in order if i < len(classes_of_query[name])
                )
        return table

    return _of_table(drawn, shots)
