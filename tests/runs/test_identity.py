"""runs/identity.py: what makes two runs two, and what does not."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from flamingo_eval.config.specs import DecodeOverride, DemoSpec, MetricSpec, RunSpec, TaskSpec
from flamingo_eval.errors import RunError
from flamingo_eval.metrics.bootstrap import bootstrap
from flamingo_eval.records import MetricResult
from flamingo_eval.report.diff import compare
from flamingo_eval.report.rows import rows_of
from flamingo_eval.report.tables import table_of
from flamingo_eval.runs.folder import find_runs, read_outputs
from flamingo_eval.runs.identity import explain, identity, resolved_names
from flamingo_eval.runs.record import read_run, read_scores, run_json
from flamingo_eval.runs.recorded import recorded_spec
from flamingo_eval.runs.runner import FinishedRun, run
from flamingo_eval.runs.task_data import fingerprint, load_data
from tests.support.fixture_types import MakeRun

SCHEMA_1 = Path(__file__).parents[1] / "data" / "schema_1"


@pytest.fixture
def mine(vqa_root: Path, tmp_path: Path) -> Path:
    """A copy of the small VQAv2 that a test may change."""
    return Path(shutil.copytree(vqa_root, tmp_path / "mine"))


@pytest.fixture
def go(make_run: MakeRun, saying_engine: Any, tmp_path: Path) -> Callable[..., FinishedRun]:
    """go(root, tell=..., **changes): the run of a folder's files, where finished looked up."""
    spec = recorded_spec(make_run(shots=1, out="template"))

    def _go(root: Path, tell: Callable[[str], None] = lambda _: None, **changes: Any) -> FinishedRun:
        changed = replace(spec, data=root.name, **changes)
        data = load_data(changed.task, root, changed.split)
        return run(changed, data, saying_engine(lambda prompt: "red"), tmp_path / "results", say=tell)

    return _go


def with_task(spec: TaskSpec, **changes: Any) -> TaskSpec:
    own = {k: v for k, v in changes.items() if k in TaskSpec.__dataclass_fields__}
    data = {k: v for k, v in changes.items() if k not in own}
    return replace(spec, **own, data=replace(spec.data, **data))


PROSE: dict[str, Any] = {
    "notes": {"notes": "another word"},
    "title": {"title": "Another"},
    "source": {"source": "elsewhere"},
    "counts": {"counts": {"val": 12}},
    "resolved elsewhere": {"support_size": 7, "max_shots": 4, "prompt": ("mine", "qa")},
}


@pytest.mark.slow
@pytest.mark.parametrize("change", PROSE.values(), ids=PROSE)
def test_prose_and_counts_are_no_other_run(go: Any, task: Any, mine: Path, change: dict[str, Any]) -> None:
    first = go(mine)
    again = go(mine, task=with_task(task("vqav2"), **change))
    assert again.cached
    assert again.folder == first.folder


def test_other_file_names_and_splits_that_are_not_read_are_no_other_run(go: Any, task: Any, mine: Path) -> None:
    first = go(mine)
    splits = dict(task("vqav2").data.splits)
    val = dict(splits["val"]) | {"questions": ("new/name.json", *splits["val"]["questions"]), "images": ("val2014",)}
    again = go(mine, task=with_task(task("vqav2"), splits={"train": splits["train"], "val": val}))
    assert (again.cached, again.folder) == (True, first.folder)


def test_a_renamed_data_folder_and_moved_files_are_no_other_run(go: Any, mine: Path) -> None:
    first = go(mine)
    moved = mine.rename(mine.with_name("renamed"))
    (moved / "Questions").mkdir()
    questions = moved / "v2_OpenEnded_mscoco_val2014_questions.json"
    questions.rename(moved / "Questions" / questions.name)
    again = go(moved)
    assert (again.cached, again.folder) == (True, first.folder)


def test_contents_of_annotation_files_are_another_run_and_the_line_names_them(go: Any, mine: Path) -> None:
    first = go(mine)
    lines: list[str] = []
    path = mine / "v2_mscoco_val2014_annotations.json"
    path.write_text(path.read_text() + "\n")
    second = go(mine, tell=lines.append)
    assert not second.cached
    assert second.folder != first.folder
    assert lines == [f"new run, not {first.folder.path.name}: v2_mscoco_val2014_annotations.json differs"]
    (difference,) = explain(read_run(first.folder.run), read_run(second.folder.run))
    assert difference.key == "v2_mscoco_val2014_annotations.json"
    assert compare(first.folder, second.folder).inputs == (difference,)


def test_a_choice_that_decides_outputs_is_another_run_and_the_line_names_it(go: Any, task: Any, mine: Path) -> None:
    first = go(mine)
    spec = recorded_spec(first.folder)
    changes: list[tuple[dict[str, Any], str]] = [
        ({"limit": 3}, "limit (None, now 3)"),
        ({"demos": replace(spec.demos, support_size=5)}, "demos.support_size (2048, now 5)"),
        ({"prompt": replace(spec.prompt, decode=DecodeOverride(beams=2))}, "decode.beams (3, now 2)"),
        ({"task": with_task(spec.task, metrics=(MetricSpec("exact_match"),))}, "task.metrics"),
        ({"task": with_task(spec.task, options={"demonstration": "most_common"})}, "task.data.options.demonstration"),
    ]
    for change, words in changes:
        lines: list[str] = []
        assert not go(mine, tell=lines.append, **change).cached
        assert len(lines) == 1
        assert words in lines[0]


def test_every_field_counts_unless_it_is_marked(make_run: MakeRun) -> None:
    keys = set(identity(recorded_spec(make_run(shots=1))))
    assert {"demos.shots", "demos.seed", "task.metrics", "prompt.query", "prompt.clean.stem_okvqa", "device"} <= keys
    assert {"decode.beams", "rank.permutations", "text_only_shots", "task.data.splits.val.subset"} <= keys
    assert not {k for k in keys if k.rsplit(".", 1)[-1] in ("notes", "title", "source", "counts", "questions")}
    assert set(resolved_names(RunSpec)) == {"decode", "rank", "text_only_shots"}


# ----------------------------------------------------------------------------------------------- pictures that change


def test_a_changed_picture_is_named_when_the_finished_run_is_met(go: Any, mine: Path) -> None:
    first = go(mine)
    assert go(mine).changed_media == ()
    path = next((mine / "val2014").iterdir())
    Image.new("RGB", (8, 8), "pink").save(path)
    again = go(mine)
    assert again.cached
    assert again.changed_media == (f"val2014/{path.name}",)
    os.utime(path, (1, 1))
    assert go(mine).changed_media == (f"val2014/{path.name}",)
    path.unlink()
    assert go(mine).changed_media == ()
    shutil.rmtree(mine / "val2014")
    assert go(mine).scores == first.scores or go(mine).cached


def test_a_changed_picture_is_named_when_a_run_goes_on(go: Any, mine: Path) -> None:
    folder = go(mine).folder
    folder.scores.unlink()
    lines = folder.outputs.read_text().splitlines(keepends=True)
    folder.outputs.write_text("".join(lines[:4]))
    for path in (mine / "val2014").iterdir():
        os.utime(path, (1, 1))
    printed: list[str] = []
    go(mine, tell=printed.append)
    (line,) = printed
    assert line.startswith("6 pictures or clips have changed since this run used them: val2014/")
    assert line.endswith("Run it again with --fresh.")


def test_the_index_holds_every_picture_once_and_no_machine_path(go: Any, mine: Path) -> None:
    folder = go(mine).folder
    rows = [json.loads(line) for line in (folder.path / "media.jsonl").read_text().splitlines()]
    names = [name for name, _, _ in rows]
    assert len(names) == len(set(names))
    assert {f"val2014/{p.name}" for p in (mine / "val2014").iterdir()} <= set(names)
    name, size, time = rows[0]
    assert (size, time) == ((mine / name).stat().st_size, (mine / name).stat().st_mtime_ns)


# --------------------------------------------------------------------------------------------------- records and draws


def test_draws_that_follow_from_the_outputs_are_not_stored(make_run: MakeRun) -> None:
    folder = make_run(lambda prompt: "1" if "3" in prompt.id else "red")
    (score,) = read_scores(folder.scores).scores
    assert "draws" not in folder.scores.read_text()
    outputs, _ = read_outputs(folder.outputs)
    result = MetricResult(score.value, tuple(o.score for o in outputs))
    ci95, draws = bootstrap(result, [o.media for o in outputs])
    assert len(draws) == 1000
    assert score.ci95 == ci95
    ((record,),) = rows_of([folder]).values()
    assert record.draws("vqa_accuracy") == draws


def test_a_record_of_schema_1_is_read_by_everything(make_run: MakeRun) -> None:
    (old,) = find_runs([SCHEMA_1])
    record = read_run(old.run)
    assert record.schema == 1
    assert record.spec.rank.wanted == "all"  # what came after it has its defaults
    assert (record.spec.protocol.style, record.spec.prompt.answer) == ("interleaved", "{{ answer }}")
    assert read_scores(old.scores).headline.value is not None
    assert len(table_of([old]).rows) == 1
    assert compare(old, old).same_results
    assert any(d.key == "task.name" for d in compare(old, make_run()).configuration)


def test_a_record_is_its_dataclass(make_run: MakeRun) -> None:
    folder = make_run()
    value = json.loads(folder.run.read_text())
    assert run_json(read_run(folder.run)) == value
    folder.run.write_text(json.dumps(value | {"more": 1, "fingerprint": None}))
    with pytest.raises(RunError, match="2 problems"):
        read_run(folder.run)


def test_shots_and_seed_are_in_the_folder_name_and_the_fingerprint(make_run: MakeRun, vqa_root: Path) -> None:
    spec = recorded_spec(make_run())
    data = load_data(spec.task, vqa_root, spec.split)
    marks = {fingerprint(replace(spec, demos=DemoSpec(shots=k, seed=s)), data) for k in (0, 4) for s in (0, 1)}
    assert len(marks) == 4
