"""Demonstrations as data: a file that names them, and the draws of VL-ICL's released code."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from flamingo_eval.config.names import find_task
from flamingo_eval.config.specs import DemoSpec, TaskSpec
from flamingo_eval.data.task_file import load_task
from flamingo_eval.errors import DataError, FlamingoEvalError, PromptError, UsageError
from flamingo_eval.prompting.demos import given_demos
from flamingo_eval.prompting.given_demos import official_draws, read_demos_file
from flamingo_eval.prompting.support import draw_support
from flamingo_eval.records import Example, Image, Split
from flamingo_eval.runs.plan import Choices, plan_runs
from flamingo_eval.runs.questions import load_questions
from flamingo_eval.sample.fresh.copies import copy_of

NAMES = ("blicket", "dax", "perpo", "shously", "slation")


def task(name: str) -> TaskSpec:
    return load_task(find_task(name))


def rows(n: int, prefix: str) -> Split:
    return Split(prefix, tuple(Example(f"{prefix}{i}", (), f"{prefix}{i}") for i in range(n)), ())


def open_mi() -> tuple[Split, Split]:
    queries, shots = [], []
    for i in range(200):
        labels = {"pool": f"q{i}", "ways_shown": 2}
        queries.append(Example(f"q{i}", (), f"q{i}", answer=NAMES[i % 5], labels=labels))
        for name in NAMES:
            for j in range(5):
                id = f"q{i}/{name}/{j}"
                shots.append(Example(id, (), id, answer=name, labels={"pool": f"q{i}"}))
    return Split("query", tuple(queries), ()), Split("support", tuple(shots), ())


REFERENCE = [  # rows of support, queries, numbers of shots run, shots, row indices of the first two queries
    (80, 60, (0, 1, 2, 4, 8), 1, ([49], [53])),
    (80, 60, (0, 1, 2, 4, 8), 2, ([40, 65], [62, 13])),
    (80, 60, (0, 1, 2, 4, 8), 4, ([72, 21, 26, 7], [20, 43, 67, 32])),
    (80, 60, (0, 1, 2, 4, 8), 8, ([51, 54, 66, 63, 41, 76, 74, 25], [69, 78, 28, 1, 43, 40, 41, 4])),
    (800, 200, (0, 1, 2, 4, 8), 1, ([394], [776])),
    (800, 200, (0, 1, 2, 4, 8), 2, ([358, 446], [184, 62])),
    (800, 200, (0, 1, 2, 4, 8), 4, ([20, 672, 0, 758], [186, 309, 519, 583])),
]


@pytest.mark.parametrize(("support", "queries", "over", "shots", "drawn"), REFERENCE)
def test_the_draws_of_the_released_code(
    support: int, queries: int, over: tuple[int, ...], shots: int, drawn: tuple[list[int], list[int]]
) -> None:
    query_rows = rows(queries, "q")
    draws = official_draws(task("vl_icl_clevr"), query_rows, rows(support, "s"), over)
    for query, expected in zip(query_rows.examples, drawn, strict=False):
        assert draws(query, DemoSpec(shots=shots)) == tuple(f"s{i}" for i in expected)


@pytest.mark.parametrize(
    ("over", "drawn"),
    [((0, 1), (("blicket", "slation"), ("dax", "perpo"))), ((1,), (("slation", "blicket"), ("blicket", "dax")))],
)
def test_open_mi_draws_at_zero_shots_too(over: tuple[int, ...], drawn: tuple[tuple[str, str], ...]) -> None:
    queries, support = open_mi()
    draws = official_draws(task("vl_icl_open_mi"), queries, support, over)
    for query, names in zip(queries.examples, drawn, strict=False):
        assert draws(query, DemoSpec(shots=1)) == tuple(f"{query.id}/{name}/0" for name in names)


@pytest.mark.parametrize("name", ["okvqa", "truemicl_clevr"])  # TrueMICL has VL-ICL's records, its draws are not known
def test_other_tasks_prescribe_no_draws(name: str) -> None:
    with pytest.raises(UsageError, match=f"{name} prescribes no draws"):
        official_draws(task(name), rows(3, "q"), rows(9, "s"), (1,))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vl_icl_open_mi", "vl_icl_matching_mi", "vl_icl_operator_induction"])
def test_a_file_that_reverses_a_runs_shots_gives_its_reversed_prompts(name: str, tmp_path: Path) -> None:
    small = {"vl_icl_open_mi": ",queries=3", "vl_icl_matching_mi": ",queries=3,support=6"}.get(name, ",pairs=2")
    copy_of(name, f"1{small}").write(tmp_path / "data")
    questions, _ = load_questions([name], "vl_icl")
    (job,) = plan_runs(questions, Choices(shots=(2,), data=str(tmp_path / "data")))
    file = tmp_path / "reversed.jsonl"
    lines = [{"id": e.query.id, "shots": [s.id for s in reversed(e.shots)], "note": 1} for e in job.episodes()]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    choices = Choices(shots=(2, 1), data=str(tmp_path / "data"), demos="file", demos_file=file)
    again, half = plan_runs(questions, choices)
    assert [e.shots for e in again.episodes()] == [tuple(reversed(e.shots)) for e in job.episodes()]
    first = len(next(job.episodes()).shots) // 2
    assert [e.shots for e in half.episodes()] == [e.shots[:first] for e in again.episodes()]
    assert again.demos.given.startswith("sha256:")
    file.write_text(file.read_text() + "\n\n")
    (other,) = plan_runs(questions, Choices(shots=(2,), data=str(tmp_path / "data"), demos="file", demos_file=file))
    assert other.demos.given != again.demos.given


def test_official_draws_are_in_the_record_with_the_shots_they_ran_over(tmp_path: Path) -> None:
    copy_of("vl_icl_open_mi", "1,queries=4").write(tmp_path)
    questions, _ = load_questions(["vl_icl_open_mi"], "vl_icl")
    jobs = plan_runs(questions, Choices(shots=(0, 1, 2, 9), data=str(tmp_path), demos="official"))
    assert [(j.demos.shots, j.demos.given) for j in jobs] == [(n, "shots 0,1,2") for n in (0, 1, 2)]
    assert [len(e.shots) for e in jobs[2].episodes()] == [4] * 4
    flamingo, _ = load_questions(["vl_icl_open_mi"], "flamingo")
    with pytest.raises(UsageError, match="no demonstrations without pictures"):
        plan_runs(flamingo, Choices(shots=(0, 1), data=str(tmp_path), demos="official"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("[]", 'expected an object with a text "id"'),
        ('{"id": "q1"}', "query 'q1': expected \"shots\""),
        ('{"id": "q1", "shots": ["s1", "s1"]}', "query 'q1' has a duplicate row"),
        ('{"id": "q99", "shots": ["s1"]}', "unknown query 'q99'"),
        ('{"id": "q1", "shots": ["s99"]}', "split 's' has no row 's99'"),
        ('{"id": "q1", "shots": ["s1"]}\n{"id": "q1", "shots": ["s1"]}', "duplicate query 'q1'"),
    ],
)
def test_what_is_wrong_with_a_line_is_named(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "demos.jsonl"
    file.write_text(text)
    with pytest.raises(DataError) as caught:
        read_demos_file(file, rows(3, "q"), rows(3, "s"))
    assert message in str(caught.value)
    with pytest.raises(DataError, match="there is no such file"):
        read_demos_file(tmp_path / "none.jsonl", rows(3, "q"), rows(3, "s"))


def test_a_byte_order_mark_is_no_part_of_the_first_line(tmp_path: Path) -> None:
    file = tmp_path / "demos.jsonl"
    file.write_bytes(b"\xef\xbb\xbf" + b'{"id": "q1", "shots": ["s1"]}')
    queries = rows(3, "q")
    demos = read_demos_file(file, queries, rows(3, "s"))
    assert tuple(demos(queries.examples[1], DemoSpec("file", 1, 0))) == ("s1",)


def test_queries_without_shots_too_few_and_own_pictures_are_errors(tmp_path: Path) -> None:
    file = tmp_path / "demos.jsonl"
    file.write_text('{"id": "q1", "shots": ["s1"]}')
    demos = read_demos_file(file, rows(3, "q"), rows(3, "s"))
    with pytest.raises(FlamingoEvalError, match="no shots for query 'q2'"):
        demos(Example("q2", (), "q2"), DemoSpec(shots=1))
    with pytest.raises(FlamingoEvalError, match="2 shots requested, 2 rows, but query 'q1' has 1"):
        demos(Example("q1", (), "q1"), DemoSpec(shots=2))
    shot = Example("s1", (Image("x.jpg"),), "x.jpg")
    support = draw_support("t", "s", [shot], DemoSpec(support_size=0))
    with pytest.raises(PromptError, match="row 's1' shows the picture of its query"):
        given_demos(Example("q1", (), "x.jpg"), replace(support, given=demos), DemoSpec(shots=1))
