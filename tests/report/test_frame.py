"""Runs as a frame."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import flamingo_eval
from flamingo_eval.errors import RunError


def test_a_row_a_score(make_run: Any, tmp_path: Path) -> None:
    make_run("1", shots=0)
    make_run("red", shots=4)
    frame = flamingo_eval.load_results(tmp_path / "results")
    assert list(frame["shots"]) == [0, 4]
    assert list(frame["value"].round(1)) == [50.0, 8.3]
    assert list(frame["text_only_shots"]) == [2, 0]
    assert frame["low"].isna().tolist() == [True, False]  # every picture has one right answer of two: no draw differs
    assert frame.loc[1, "low"] < frame.loc[1, "value"] < frame.loc[1, "high"]
    assert frame.loc[0, "metric"] == "vqa_accuracy"


def test_a_row_a_query(make_run: Any, tmp_path: Path) -> None:
    folder = make_run("1", shots=4)
    frame = flamingo_eval.load_results([folder.path], per="query")
    assert len(frame) == 12
    assert frame["score"].mean() == 50.0
    assert all(len(ids) == 4 for ids in frame["shot_ids"])
    assert set(frame["answer"]) == {"1"}


def test_a_row_a_number_of_shots(make_run: Any, tmp_path: Path) -> None:
    make_run("1", shots=0)
    make_run("red", shots=4)
    make_run("red", shots=4, seed=1)
    frame = flamingo_eval.load_results(tmp_path / "results", per="shots")
    assert list(frame["shots"]) == [0, 4]
    assert frame.loc[0, "score"] == 50.0
    assert frame.loc[0, "copied"] == 0.0, "no wall is called 1"
    assert frame.loc[1, "copied"] > 0
    assert frame.loc[1, "copied_low"] < frame.loc[1, "copied"] < frame.loc[1, "copied_high"]
    assert set(frame["change"].round(1)) == {-41.7}
    assert set(frame["verdict"]) == {"no more"}


def test_queries_say_what_their_answer_took_over(make_run: Any, tmp_path: Path) -> None:
    make_run("red", shots=4)
    frame = flamingo_eval.load_results(tmp_path / "results", per="query")
    assert frame["copied"].any()
    assert not frame["copied"].all()
    assert (frame["copied"] | ~frame["majority"]).all(), "the most frequent answer is one of them"


def test_a_folder_without_runs_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no complete run"):
        flamingo_eval.load_results(tmp_path)
    with pytest.raises(ValueError, match="'score', 'query' or 'shots'"):
        flamingo_eval.load_results(tmp_path, per="seed")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["scores.json", "run.json"])
def test_a_record_with_a_negative_number_of_shots_is_named(make_run: Any, tmp_path: Path, name: str) -> None:
    file = make_run("red", shots=4).path / name
    text = file.read_text(encoding="utf-8")
    assert '"shots": 4' in text
    file.write_text(text.replace('"shots": 4', '"shots": -3'), encoding="utf-8")
    with pytest.raises(RunError, match=rf"(?s){name}.*shots: expected 0 or more, got -3"):
        flamingo_eval.load_results(tmp_path / "results")


def test_the_package_does_not_import_pandas_before_it_is_needed() -> None:
    probe = "import sys, flamingo_eval; sys.exit('pandas' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", probe], check=False).returncode == 0


def test_a_pivot_by_row_never_averages_unlike_runs(make_run: Any, tmp_path: Path) -> None:
    make_run("red", shots=4)
    make_run("red", shots=4, seed=1)
    make_run("nothing", shots=4, ablation="labels-shuffled")
    make_run("nothing", shots=4, protocol="openflamingo")
    make_run("nothing", shots=4, limit=6)
    scores = flamingo_eval.load_results(tmp_path / "results")
    grid = scores[scores.headline].pivot_table("value", "row", "shots")
    assert len(grid) == 4
    assert sorted(grid[4].round(6)) == pytest.approx([0.0, 0.0, 0.0, 100 / 12])
