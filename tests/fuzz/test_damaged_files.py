from __future__ import annotations

import contextlib
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.fuzz import fuzz
from flamingo_eval.config.names import find_task
from flamingo_eval.data.annotation_files import read_json, read_json_lines
from flamingo_eval.data.annotations import ProblemLog
from flamingo_eval.data.layouts import load_labelled
from flamingo_eval.data.media import open_video
from flamingo_eval.data.task_file import load_task
from flamingo_eval.errors import CheckpointError, DataError, FlamingoEvalError, MediaError, PredictionError, RunError
from flamingo_eval.models.config_json import read_config
from flamingo_eval.models.convert.foreign_weights import file_weights
from flamingo_eval.records import Video
from flamingo_eval.runs.folder import parse_output, read_outputs
from flamingo_eval.runs.predictions import read_predictions
from flamingo_eval.runs.record import read_run, read_scores
from flamingo_eval.sample import sample_root
from tests.support.fixture_types import MakeRun

HUGE = "9" * 5000
DEEP = "[" * 100_000


@pytest.mark.slow
def test_damaged_files_of_every_kind_are_read_or_refused() -> None:
    torch.set_num_threads(1)
    report = fuzz(seed=0, cases=8)
    assert report.findings == {}
    assert len(report.cases) > 15
    assert set(report.cases.values()) == {8}
    assert sum(report.refused.values()) > sum(report.cases.values()) / 2


@pytest.mark.slow
@given(text=st.text() | st.recursive(st.none() | st.floats() | st.text() | st.integers(), st.lists).map(json.dumps))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_is_no_traceback(tmp_path: Path, text: str) -> None:
    path = tmp_path / "file.json"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    for read in (read_json, read_config, lambda p: read_json_lines(p, ProblemLog())):
        with contextlib.suppress(FlamingoEvalError):
            read(path)
    assert read_outputs(path)[1] <= path.stat().st_size


@pytest.mark.parametrize("text", [HUGE, f'{{"a": {HUGE}}}', DEEP])
def test_huge_numbers_and_deep_nesting_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "file.json"
    path.write_text(text)
    with pytest.raises(DataError):
        read_json(path)
    with pytest.raises(CheckpointError):
        read_config(path)
    log = ProblemLog()
    assert read_json_lines(path, log) == []
    assert [p.line for p in log.problems] == [1]


def test_half_a_surrogate_pair_is_refused_where_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    path.write_text('{"question": "What \\ud83d?"}')
    with pytest.raises(DataError, match="half a surrogate pair"):
        read_json(path)
    path.write_text('{"question": "What \\ud83d\\ude00?"}')
    assert read_json(path) == {"question": "What 😀?"}


def test_a_key_with_two_values_is_refused_wherever_json_is_read(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    path.write_text('{"a": {"id": 1, "id": 1}}')
    assert read_json(path) == {"a": {"id": 1}}
    path.write_text('{"schema": 1, "a": {"id": 1, "id": 2}}')
    what = r"file\.json: duplicate key 'id' in one object, with different values"
    for read, error in (
        (read_json, DataError),
        (read_config, CheckpointError),
        (read_run, RunError),
        (read_scores, RunError),
    ):
        with pytest.raises(error, match=what):
            read(path)
    log = ProblemLog()
    path.write_text('{"id": 1}\n{"id": 1, "id": 2}\n')
    assert len(read_json_lines(path, log)) == 1
    assert [(p.line, p.what) for p in log.problems] == [(2, "duplicate key 'id' in one object, with different values.")]
    with pytest.raises(ValueError, match="duplicate key"):
        parse_output('{"id": "1", "id": "2"}')


def test_messages_can_always_be_written() -> None:
    str(FlamingoEvalError("unknown id '\ud800'")).encode()


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        ('{"id": ID, "prediction": "a", "prediction": "b"}', "duplicate key"),
        ('{"id": ID, "prediction": "\\ud800"}', "half a surrogate pair"),
        (f'{{"id": ID, "prediction": {HUGE}}}', "not JSON"),
    ],
)
def test_predictions_that_say_two_things_or_nothing_are_refused(tmp_path: Path, changed: str, what: str) -> None:
    spec = load_task(find_task("vqav2"))
    split = load_labelled(spec, sample_root("vqav2"))
    lines = [json.dumps({"id": e.id, "prediction": "a"}) for e in split.examples]
    lines[0] = changed.replace("ID", json.dumps(split.examples[0].id))
    path = tmp_path / "p.jsonl"
    path.write_text("\n".join(lines))
    with pytest.raises(PredictionError, match=what):
        read_predictions(path, spec, split)


def test_a_score_too_large_for_a_number_is_refused(tmp_path: Path) -> None:
    spec = load_task(find_task("hateful_memes"))
    split = load_labelled(spec, sample_root("hateful_memes"))
    path = tmp_path / "p.jsonl"
    path.write_text("\n".join(json.dumps({"id": e.id, "scores": [10**400, 0]}) for e in split.examples))
    with pytest.raises(PredictionError, match="must be a list of numbers"):
        read_predictions(path, spec, split)


@pytest.mark.parametrize(
    "values",
    [{"id": ["1"]}, {"id": "1", "tokens": "7"}, {"id": "1", "shots": [1]}, {"id": "1", "score": {}}],
)
def test_an_output_of_wrong_types_is_foreign(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="not an output"):
        parse_output(json.dumps(values))


def test_a_broken_zip_is_no_traceback(tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a", "b")
    many_disks = b"PK\x06\x07" + bytes(4) + bytes(8) + b"\x09\x00\x00\x00"
    whole = path.read_bytes()
    path.write_bytes(whole[:-22] + many_disks + whole[-22:])
    with pytest.raises(CheckpointError):
        file_weights(path)


def test_a_clip_of_an_unknown_codec_is_named(tmp_path: Path) -> None:
    clip = next(p for p in sorted(sample_root("msrvttqa").rglob("*.mp4")))
    data = clip.read_bytes()
    at = data.index(b"stsd") + 16
    path = tmp_path / "clip.mp4"
    path.write_bytes(data[:at] + b"zzzz" + data[at + 4 :].replace(b"esds", b"zzzz", 1).replace(b"avcC", b"zzzz", 1))
    with pytest.raises(MediaError, match="unknown codec"):
        open_video(Video(path))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "change", "key"),
    [
        ("scores.json", {"task": []}, "task"),
        ("scores.json", {"ablation": 7}, "ablation"),
        ("scores.json", {"scores": []}, "file"),
        ("scores.json", {"seed": {}}, "seed"),
        ("scores.json", {"scores": [{"metric": "vqa", "value": "high", "n": 1}]}, "scores[0].value"),
        ("scores.json", {"scores": [{"metric": "vqa", "value": 10**400, "n": 1}]}, "scores[0].value"),
        ("scores.json", {"scores": [{"metric": "vqa", "value": 1.0, "n": 1, "ci95": [1]}]}, "scores[0].ci95"),
        ("scores.json", {"scores": [{"metric": ["vqa"], "value": 1.0, "n": 1}]}, "scores[0].metric"),
        ("run.json", {"timings": {"seconds": []}}, "timings.seconds"),
        ("run.json", {"timings": {"seconds": float("nan")}}, "timings.seconds"),
        ("run.json", {"provenance": {"packages": {"torch": 2}}}, "provenance.packages.torch"),
        ("run.json", {"status": ["complete"]}, "status"),
        ("run.json", {"engine": {"a": float("inf")}}, "engine.a"),
        ("run.json", {"spec": None}, "spec"),
        ("run.json", {"counts": {"queries": 10**30}}, "counts.queries"),
    ],
)
def test_a_record_of_wrong_types_is_refused_with_its_key(
    make_run: MakeRun, name: str, change: dict[str, Any], key: str
) -> None:
    folder = make_run()
    path = folder.path / name
    read = {"scores.json": read_scores, "run.json": read_run}[name]
    read(path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(RunError, match=name) as caught:
        read(path)
    assert f"\n  {key}: " in str(caught.value)


def test_half_a_surrogate_pair_in_a_record_is_refused(make_run: MakeRun) -> None:
    folder = make_run()
    folder.scores.write_text(json.dumps(json.loads(folder.scores.read_text()) | {"model": "\ud800"}))
    with pytest.raises(RunError, match="half a surrogate pair"):
        read_scores(folder.scores)


def test_an_answer_that_is_no_text_is_foreign() -> None:
    with pytest.raises(ValueError, match="not an output"):
        parse_output('{"id": "1", "raw": 0, "prediction": "a"}')
