"""Runs of one name that differ in more than their seed never share a cell."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from flamingo_eval import load_results
from flamingo_eval.config.specs import DemoSpec
from flamingo_eval.errors import RunError
from flamingo_eval.report.cells import lines
from flamingo_eval.report.rows import rows_of
from flamingo_eval.report.tables import table_of
from flamingo_eval.runs.folder import RunFolder, find_runs
from tests.support.fixture_types import MakeRun


def labels(place: Path) -> list[str]:
    return sorted(line[0] for line in lines(table_of(find_runs([place]))))


def test_runs_of_one_setting_share_a_row_without_a_word(make_run: MakeRun, tmp_path: Path) -> None:
    for shots, seed in ((0, 0), (4, 0), (4, 1)):
        make_run(shots=shots, seed=seed)
    assert labels(tmp_path / "results") == ["vqav2"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"limit": 9}, ["limit 9", "limit none"]),
        ({"demos": DemoSpec(shots=4, support_size=8)}, ["support_size 2048", "support_size 8"]),
        ({"sha256": "beef"}, ["weights beef", "weights c0ffee"]),
        ({"dtype": "bfloat16"}, ["dtype bfloat16", "dtype float32"]),
        ({"limit": 9, "sha256": "beef"}, ["limit 9, weights beef", "limit none, weights c0ffee"]),
    ],
)
def test_what_differs_is_named(make_run: MakeRun, tmp_path: Path, changes: dict[str, object], words: list[str]) -> None:
    make_run(shots=4)
    make_run(shots=4, **changes)
    assert labels(tmp_path / "results") == [f"vqav2 ({w})" for w in words]
    assert sorted(load_results(tmp_path / "results")["variant"]) == words


def test_what_a_record_spells_out_is_named_as_it_was_resolved(make_run: MakeRun, tmp_path: Path) -> None:
    folder = make_run("1", shots=4)
    copy = RunFolder(Path(shutil.copytree(folder.path, folder.path.with_name("copy"))))
    record = json.loads(copy.run.read_text())
    for rank in (record["spec"]["rank"], record["spec"]["prompt"]["rank"]):
        rank |= {"wanted": "best", "permutations": 6}
    copy.run.write_text(json.dumps(record))
    words = load_results(tmp_path)["variant"]
    assert sorted(sorted(w.split(", ")) for w in words) == [
        ["permutations 1", "wanted all"],
        ["permutations 6", "wanted best"],
    ]


def test_a_failed_setting_of_another_kind_does_not_split_a_row(make_run: MakeRun, tmp_path: Path) -> None:
    make_run(shots=4)
    make_run(shots=4, seed=1, on_error="skip")
    assert labels(tmp_path / "results") == ["vqav2"]


def test_the_same_record_twice_counts_once(make_run: MakeRun, tmp_path: Path) -> None:
    folder = make_run("1", shots=4)
    shutil.copytree(folder.path, tmp_path / "results" / "copy")
    ((records),) = rows_of(find_runs([tmp_path / "results"])).values()
    assert len(records) == 1
    assert len(load_results(tmp_path / "results", per="query")) == 12


def test_a_repetition_with_another_score_is_no_seed(make_run: MakeRun, tmp_path: Path) -> None:
    folder = make_run("1", shots=4)
    shutil.copytree(folder.path, tmp_path / "results" / "copy")
    scores = json.loads(folder.scores.read_text())
    scores["scores"][0]["value"] = 51.0
    folder.scores.write_text(json.dumps(scores))
    table = table_of(find_runs([tmp_path / "results"]))
    assert sorted(line[0] for line in lines(table)) == ["vqav2", "vqav2 (record 2)"]
    assert [row.cells[4].seeds for row in table.rows] == [(0,), (0,)]


def test_seeds_that_failed_on_other_queries_have_no_common_interval(make_run: MakeRun, tmp_path: Path) -> None:
    folders = [make_run(lambda p: "1" if p.id in ("106", "107") else "no", shots=4, seed=s) for s in (0, 1)]
    assert table_of(folders).rows[0].cells[4].ci95 is not None
    for folder, failed in zip(folders, (0, 1), strict=True):
        scores = json.loads(folder.scores.read_text())
        scores["scores"][0]["n_failed"] = 1
        folder.scores.write_text(json.dumps(scores))
        rows = [json.loads(line) for line in folder.outputs.read_text().splitlines()]
        rows[failed]["error"] = "cut"
        folder.outputs.write_text("".join(json.dumps(r) + "\n" for r in rows))
    cell = table_of(folders).rows[0].cells[4]
    assert cell.value is not None
    assert cell.ci95 is None


def test_hostile_values_in_a_record_are_only_words(make_run: MakeRun, tmp_path: Path) -> None:
    for number, value in enumerate(("<script>" * 9, "a\x1b[2J")):
        folder = make_run(shots=4, out=f"results/{number}")
        run = json.loads(folder.run.read_text())
        run["spec"]["prompt"]["prefix"] = value
        folder.run.write_text(json.dumps(run))
    assert len(labels(tmp_path / "results")) == 2
    run["spec"]["limit"] = ["a", {"b": None}]
    folder.run.write_text(json.dumps(run))
    with pytest.raises(RunError, match=r"spec\.limit: expected an integer, got a list"):
        labels(tmp_path / "results")
