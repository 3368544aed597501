"""Queries that bring their demonstrations: shown in the benchmark's order, all or the first, from files and exports."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flamingo_eval.cli import app
from flamingo_eval.errors import DataError, UsageError
from flamingo_eval.prompting.support import fewer_note
from flamingo_eval.records import Episode
from flamingo_eval.runs.plan import Choices, PlannedRun, plan_runs
from flamingo_eval.runs.questions import load_questions
from flamingo_eval.sample.benchmarks import isekai, smmile

NUMBERS = {"a": 1, "b": 3, "c": 0}  # demonstrations of each problem


@pytest.fixture
def root(tmp_path: Path) -> Path:
    rows = [
        {"problem_id": p, "order": n, "image": f"{p}{n}.png", "question": f"{p}{n}?", "answer": f"{p}{n % 2}"}
        for p, last in NUMBERS.items()
        for n in reversed(range(last + 1))
    ]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def planned(root: Path, choices: Choices, task: str = "smmile", protocol: str = "smmile") -> list[PlannedRun]:
    questions, _ = load_questions([task], protocol)
    return plan_runs(questions, choices)


def shots(episodes: Iterator[Episode]) -> dict[str, list[str]]:
    return {e.query.id: [s.id for s in e.shots] for e in episodes}


def test_without_a_number_every_query_shows_all_it_brings_in_its_order(root: Path) -> None:
    (run,) = planned(root, Choices(data=str(root)))
    assert run.demos.shots == 3
    assert shots(run.episodes()) == {"a": ["a/0"], "b": ["b/0", "b/1", "b/2"], "c": []}
    assert fewer_note(run.queries, 3) == "2 of 3 queries have fewer demonstrations and show all of them"
    (every,) = planned(root, Choices(shots=(None,), data=str(root), limit=1))
    assert every.demos.shots == 3  # of the whole file, whatever the limit


@pytest.mark.parametrize("method", ["random", "fixed", "official"])
def test_of_fewer_shots_the_first_are_shown_whatever_the_seed_and_zero_shots_are_bare(root: Path, method: str) -> None:
    choices = Choices(shots=(2, 0, 3, None, 4), seeds=(0, 1), data=str(root), demos=method)  # type: ignore[arg-type]
    runs = planned(root, choices)
    assert [(r.demos.shots, r.demos.seed) for r in runs] == [(n, s) for n in (2, 0, 3) for s in (0, 1)]
    assert shots(runs[0].episodes()) == shots(runs[1].episodes()) == {"a": ["a/0"], "b": ["b/0", "b/1"], "c": []}
    assert shots(runs[2].episodes()) == {"a": [], "b": [], "c": []}


def test_balanced_shots_are_of_the_querys_own_too(root: Path) -> None:
    (run,) = planned(root, Choices(shots=(2,), data=str(root), demos="balanced"))
    drawn = shots(run.episodes())
    assert (drawn["a"], drawn["c"]) == (["a/0"], [])
    assert "b/1" in drawn["b"]  # the one row of its answer
    assert set(drawn["b"]) < {"b/0", "b/1", "b/2"}


def test_more_than_any_query_brings_cannot_be_asked_for_and_all_only_of_such_tasks(root: Path) -> None:
    with pytest.raises(UsageError, match="no query has this many demonstrations"):
        planned(root, Choices(shots=(4, 8), data=str(root)))
    with pytest.raises(UsageError, match="--shots all: isekai_10 draws its shots"):
        planned(root, Choices(shots=(0, None)), "isekai_10", "isekai")


def test_a_file_reverses_them_and_may_name_fewer_only_where_a_query_has_fewer(root: Path) -> None:
    (run,) = planned(root, Choices(data=str(root)))
    file = root / "reversed.jsonl"
    lines = [{"id": id, "shots": ids[::-1]} for id, ids in shots(run.episodes()).items()]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    choices = Choices(shots=(None, 1), data=str(root), demos="file", demos_file=file)
    again, one = planned(root, choices)
    assert shots(again.episodes()) == {"a": ["a/0"], "b": ["b/2", "b/1", "b/0"], "c": []}
    assert shots(one.episodes()) == {"a": ["a/0"], "b": ["b/2"], "c": []}
    file.write_text('{"id": "a", "shots": ["a/0"]}\n{"id": "b", "shots": ["b/2"]}\n{"id": "c", "shots": []}\n')
    with pytest.raises(DataError, match="query 'b' has 1"):
        planned(root, choices)


def test_a_demonstration_with_the_querys_picture_is_the_benchmarks_choice_and_shown(tmp_path: Path) -> None:
    rows = [{"problem_id": "a", "order": n, "image": "same.png", "question": "?", "answer": "x"} for n in range(3)]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for method in ("random", "official"):
        (run,) = planned(tmp_path, Choices(data=str(tmp_path), demos=method))
        assert shots(run.episodes()) == {"a": ["a/0", "a/1"]}


@pytest.fixture
def small_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLAMINGO_EVAL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(smmile, "PROBLEMS", 4)
    monkeypatch.setattr(isekai, "CREATURES", 2)


@pytest.mark.usefixtures("small_sample")
def test_show_and_export_print_them(tmp_path: Path) -> None:
    printed = CliRunner().invoke(app, ["show", "smmile", "--json"])
    assert printed.exit_code == 0, printed.output
    prompt = json.loads(printed.stdout)
    assert prompt["shots"] == [f"0/{n}" for n in range(1, len(prompt["shots"]) + 1)]
    assert prompt["prompt"].count("Answer:") == len(prompt["shots"]) + 1
    assert len(prompt["media"]) == len(prompt["shots"]) + 1
    out = tmp_path / "e.jsonl"
    done = CliRunner().invoke(app, ["export", "smmile,isekai_10", "--shots", "2", "--out", str(out)])
    assert done.exit_code == 0, done.output
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert {(line["task"], line["protocol"]) for line in lines} == {
        ("smmile@sample", "flamingo"), ("isekai_10@sample", "isekai"),
    }  # fmt: skip
    assert lines[0]["shot_ids"] == ["0/1", "0/2"]
    assert all(len(line["shot_ids"]) == 4 for line in lines if line["task"] == "isekai_10@sample")


@pytest.mark.usefixtures("small_sample")
def test_an_isekai_shot_is_a_picture_of_each_list_in_an_order_of_its_own() -> None:
    two, four = planned(Path(), Choices(shots=(2, 4)), "isekai_10", "isekai")
    orders = set()
    for short, long in zip(two.episodes(), four.episodes(), strict=True):
        assert long.shots[:4] == short.shots  # nested
        for n in range(4):
            pair = [s.id.removeprefix(f"{long.query.id}/") for s in long.shots[2 * n : 2 * n + 2]]
            assert sorted(pair) == [f"negative/{n}", f"positive/{n}"]
            orders.add((n, pair[0]))
    assert len(orders) > 4  # some shots begin with the one list, some with the other
    official, again = planned(Path(), Choices(shots=(1, 3), demos="official"), "isekai_10", "isekai")
    for episode in again.episodes():
        assert {s.id.rpartition("/")[2] for s in episode.shots} == {"0", "1", "2"}
    assert official.demos.given == "shots 1,3"
