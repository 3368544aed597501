"""session.py: what is finished is looked up first, and only what is left needs pictures and a model."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from flamingo_eval.config.load import load_prompt
from flamingo_eval.config.specs import ModelIdentity
from flamingo_eval.data.task_file import load_task
from flamingo_eval.errors import MediaError
from flamingo_eval.prompting.prompts import with_variant
from flamingo_eval.records import Prompt
from flamingo_eval.runs.backend import Backend
from flamingo_eval.runs.plan import Choices, PlannedRun, plan_runs
from flamingo_eval.runs.questions import load_questions, question_of
from flamingo_eval.runs.session import run_all

IDENTITY = ModelIdentity("m", "0", "cpu", "float32")


@pytest.fixture
def root(vqa_root: Path, tmp_path: Path) -> Path:
    """A copy of the small VQAv2, to be damaged."""
    return Path(shutil.copytree(vqa_root, tmp_path / "vqa"))


def planned(root: Path, shots: Sequence[int] = (0, 2), seeds: Sequence[int] = (0,)) -> list[PlannedRun]:
    questions, _ = load_questions(["vqav2"], "flamingo")
    return plan_runs(questions, Choices(shots=tuple(shots), seeds=tuple(seeds), data=str(root)))


class Opening:
    """Opens a backend and remembers for which runs."""

    def __init__(self, engine: Any) -> None:
        self.engine = engine
        self.left: list[list[tuple[str, int, int]]] = []

    @contextmanager
    def __call__(self, runs: Sequence[PlannedRun]) -> Iterator[Backend]:
        self.left.append([r.key for r in runs])
        yield Backend(IDENTITY, self.engine)


def test_a_finished_run_needs_no_pictures_and_no_model(root: Path, tmp_path: Path, saying_engine: Any) -> None:
    opening = Opening(saying_engine(lambda prompt: "red"))
    first = run_all(planned(root), opening, tmp_path / "out", identity=IDENTITY)
    for folder in ("val2014", "train2014"):
        shutil.rmtree(root / folder)
    again = run_all(planned(root), opening, tmp_path / "out", identity=IDENTITY)
    assert first is not None
    assert again is not None
    assert [r.scores for r in again] == [r.scores for r in first]
    assert all(r.cached for r in again)
    assert len(opening.left) == 1


def test_only_unfinished_runs_are_opened_and_records_keep_their_order(
    root: Path, tmp_path: Path, saying_engine: Any
) -> None:
    opening = Opening(saying_engine(lambda prompt: "red"))
    run_all(planned(root, shots=(2,)), opening, tmp_path / "out", identity=IDENTITY)
    records = run_all(planned(root, shots=(0, 2, 4)), opening, tmp_path / "out", identity=IDENTITY)
    assert records is not None
    assert [(r.spec.demos.shots, r.cached) for r in records] == [(0, False), (2, True), (4, False)]
    assert opening.left == [[("vqav2", 2, 0)], [("vqav2", 0, 0), ("vqav2", 4, 0)]]


def test_a_missing_picture_of_an_unfinished_run_is_named_before_the_model(
    root: Path, tmp_path: Path, saying_engine: Any
) -> None:
    gone = sorted((root / "val2014").iterdir())[0]
    gone.unlink()
    opening = Opening(saying_engine(lambda prompt: "red"))
    with pytest.raises(MediaError, match=gone.name):
        run_all(planned(root), opening, tmp_path / "out", identity=IDENTITY)
    assert not opening.left


def test_an_interrupted_run_needs_the_pictures_of_what_is_left(root: Path, tmp_path: Path, saying_engine: Any) -> None:
    queries: list[str] = []

    def stops(prompt: Prompt) -> str:
        if len(queries) == 8:
            raise KeyboardInterrupt
        queries.append(prompt.id)
        return "red"

    runs = planned(root, shots=(0,))
    with pytest.raises(KeyboardInterrupt):
        run_all(runs, Opening(saying_engine(stops)), tmp_path / "out", identity=IDENTITY)
    shutil.rmtree(root / "train2014")  # at zero shots no demonstration is shown with its picture
    by_picture: dict[str, list[str]] = {}
    for query in runs[0].queries:
        by_picture.setdefault(query.media_id, []).append(query.id)
    done = next(e.media[0].path for e in runs[0].queries if set(by_picture[e.media_id]) <= set(queries))
    picture = next(e.media[0].path for e in runs[0].queries if not set(by_picture[e.media_id]) <= set(queries))
    done.unlink()
    opening = Opening(saying_engine(lambda prompt: "red"))
    left = picture.read_bytes()
    picture.unlink()
    with pytest.raises(MediaError, match=picture.name):
        run_all(runs, opening, tmp_path / "out", identity=IDENTITY)
    picture.write_bytes(left)
    records = run_all(runs, opening, tmp_path / "out", identity=IDENTITY)
    assert records is not None
    assert records[0].resumed == 8


def test_of_the_wordings_of_an_instruction_only_the_chosen_one_makes_it_another_run(
    root: Path, tmp_path: Path, saying_engine: Any
) -> None:
    protocol = Path(shutil.copytree("prompts/chat", tmp_path / "chat"))
    prompt = protocol / "qa.yaml"
    opening = Opening(saying_engine(lambda prompt: "red"))

    def ran(variant: str = "") -> bool:
        """Whether the run was complete before."""
        question = question_of(load_task(Path("tasks/vqav2.yaml")), str(protocol))
        if variant:
            question = replace(question, prompt=with_variant(load_prompt(prompt), variant))
        runs = plan_runs([question], Choices(shots=(0,), data=str(root)))
        records = run_all(runs, opening, tmp_path / "out", identity=IDENTITY)
        assert records is not None
        return records[0].cached

    assert not ran()
    prompt.write_text(prompt.read_text().replace("instructions:\n", "instructions:\n  never-used: Say nothing.\n"))
    assert ran()
    prompt.write_text(prompt.read_text().replace("default: Give a short", "default: Give a very short"))
    assert not ran()
    assert not ran("lmms-eval")


def test_episodes_of_a_run_are_those_of_its_queries(root: Path) -> None:
    (run,) = planned(root, shots=(4,))
    whole = list(run.episodes())
    assert [e.query for e in whole] == list(run.queries)
    assert list(run.episodes(every=5)) == whole[::5]
    assert run.episode(3) == whole[3]
    some = {e.query.id for e in whole[:6]}
    assert list(run.episodes(excluded_ids=some)) == whole[6:]


@pytest.mark.slow
def test_the_same_command_prints_the_table_without_torch_or_pictures(tmp_path: Path) -> None:
    probe = """
import sys
from typer.testing import CliRunner
from flamingo_eval.cli import app
result = CliRunner().invoke(app, sys.argv[1:])
print(result.output, result.exception)
print("torch" if "torch" in sys.modules else "no torch")
"""
    words = ["run", "vqav2", "--shots", "0", "--limit", "4", "--device", "cpu", "--out", str(tmp_path / "out")]

    def ran() -> list[str]:
        done = subprocess.run([sys.executable, "-c", probe, *words], capture_output=True, text=True, check=True)
        return done.stdout.splitlines()

    first, second = ran(), ran()
    assert first[-1] == "torch"
    assert second[-1] == "no torch"
    assert any("already done" in line for line in second)
    (row,) = [line for line in second if line.startswith("vqav2@sample  ")]
    assert row in first


def test_a_picture_that_no_prompt_shows_is_not_asked_for(root: Path, tmp_path: Path, saying_engine: Any) -> None:
    runs = planned(root, shots=(1,))
    paths = {m.path for e in runs[0].episodes() for x in (e.query, *e.shots) for m in x.media}
    support = runs[0].support
    assert support is not None
    others = {m.path for e in support.examples for m in e.media} - paths
    for path in others:
        Image.new("RGB", (1, 1)).save(path)
        path.write_bytes(b"")
    records = run_all(runs, Opening(saying_engine(lambda prompt: "red")), tmp_path / "out", identity=IDENTITY)
    assert records is not None
    assert records[0].n == 12
