"""Exported prompts: they are those of a run, for every shots and seed, with pictures that can be opened."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image as PillowImage
from typer.testing import CliRunner

from flamingo_eval.cli import app
from flamingo_eval.config.names import find_task
from flamingo_eval.data.layouts import load_split
from flamingo_eval.data.task_file import load_task
from flamingo_eval.errors import MediaError, PredictionError
from flamingo_eval.prompting.prompts import render, shown
from flamingo_eval.runs.folder import find_runs, read_outputs
from flamingo_eval.runs.plan import Choices, plan_runs
from flamingo_eval.runs.predictions import read_predictions
from flamingo_eval.runs.questions import load_question
from flamingo_eval.sample import sample_root


def exported(out: Path, *words: str) -> list[dict[str, Any]]:
    result = CliRunner().invoke(app, ["export", *words, "--out", str(out)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]


def text_of(line: dict[str, Any], image: str = "<image>") -> str:
    return str(line["begin"]) + "".join(part.get("text", image) for part in line["parts"])


@pytest.mark.slow
def test_lines_are_the_prompts_of_the_runs_for_all_shots_and_seeds(tmp_path: Path) -> None:
    lines = exported(tmp_path / "e.jsonl", "vqav2,coco", "--shots", "0,4", "--seeds", "0,1", "--limit", "3")
    questions = [load_question(task, "flamingo") for task in ("vqav2", "coco")]
    runs = plan_runs(questions, Choices(shots=(0, 4), seeds=(0, 1), limit=3))
    expected = [(run, episode) for run in runs for episode in run.episodes()]
    assert len(lines) == len(expected) == 2 * 2 * 2 * 3
    for line, (run, episode) in zip(lines, expected, strict=True):
        assert text_of(line) == shown(render(episode, run.prompt, run.protocol), run.protocol)
        assert (line["id"], line["task"]) == (episode.query.id, run.task_label)
        assert (line["shots"], line["seed"]) == (run.demos.shots, run.demos.seed)
        assert line["shot_ids"] == [shot.id for shot in episode.shots]
        assert line["decoding"]["beams"] == run.decode.beams


def test_the_expected_answers_are_not_exported(tmp_path: Path) -> None:
    for line in exported(tmp_path / "e.jsonl", "hateful_memes", "--shots", "0", "--limit", "2"):
        assert not {"references", "target", "answer", "labels"} & line.keys()
        assert line["candidates"]
        assert len(line["continuations"]) == len(line["candidates"])


def test_chat_protocols_keep_their_turns(tmp_path: Path) -> None:
    (line,) = exported(tmp_path / "e.jsonl", "vqav2", "--protocol", "chat", "--shots", "2", "--limit", "1")
    assert [turn["role"] for turn in line["turns"]][-5:] == ["user", "assistant", "user", "assistant", "user"]
    assert sum(part["type"] == "image" for turn in line["turns"] for part in turn["parts"]) == 3


@pytest.mark.slow
def test_copied_pictures_lie_beside_the_file_each_content_once(tmp_path: Path) -> None:
    lines = exported(tmp_path / "e.jsonl", "vqav2", "--media", "copy", "--shots", "2", "--seeds", "0,1")
    paths = {part["path"] for line in lines for part in line["parts"] if part["type"] == "image"}
    assert {p.relative_to(tmp_path).as_posix() for p in (tmp_path / "e-media").iterdir()} == paths
    for path in paths:
        PillowImage.open(tmp_path / path).load()


def test_clips_are_copied_whole_and_keep_their_segment(tmp_path: Path) -> None:
    (line,) = exported(tmp_path / "e.jsonl", "youcook2", "--media", "copy", "--shots", "0", "--limit", "1")
    (clip,) = (part for part in line["parts"] if part["type"] == "video")
    assert clip["end"] > clip["start"]
    assert (tmp_path / clip["path"]).stat().st_size > 0


@pytest.mark.slow
def test_a_missing_picture_stops_the_export_or_leaves_its_query_out(tmp_path: Path) -> None:
    import shutil

    root = tmp_path / "data"
    shutil.copytree(sample_root("vqav2"), root)
    options = ("vqav2", "--data", str(root), "--shots", "0", "--limit", "4")
    lines = exported(tmp_path / "all.jsonl", *options)
    picture = next(part["path"] for part in lines[0]["parts"] if part["type"] == "image")
    Path(picture).unlink()
    with pytest.raises(MediaError, match=r"query .*there is no such file"):
        exported(tmp_path / "e.jsonl", *options)
    assert not (tmp_path / "e.jsonl").exists()
    left = exported(tmp_path / "e.jsonl", *options, "--on-error", "skip")
    assert left == [line for line in lines if all(p.get("path") != picture for p in line["parts"])]


@pytest.mark.slow
def test_demonstrations_that_a_model_chooses_are_those_of_the_run(tmp_path: Path) -> None:
    options = ("vqav2", "--demos", "rices-text", "--shots", "2", "--limit", "2", "--support-size", "16")
    lines = exported(tmp_path / "e.jsonl", *options, "--model", "tiny")
    done = CliRunner().invoke(app, ["run", *options, "--out", str(tmp_path / "results")])
    assert done.exit_code == 0, done.output
    (folder,) = find_runs([tmp_path / "results"])
    assert {line["id"]: tuple(line["shot_ids"]) for line in lines} == {
        output.id: output.shots for output in read_outputs(folder.outputs)[0]
    }


def test_every_order_of_the_shots_is_a_line_and_answers_are_averaged(tmp_path: Path) -> None:
    lines = exported(tmp_path / "e.jsonl", "imagenet", "--shots", "2", "--limit", "3", "--permutations", "6")
    assert [line["order"] for line in lines] == [0, 1] * 3  # two shots have two orders
    assert lines[0]["shot_ids"] == lines[1]["shot_ids"][::-1]
    for i, line in enumerate(lines):
        line["scores"] = [float((i + k) % 7) for k in range(len(line["candidates"]))]
    answers = tmp_path / "answers.jsonl"
    answers.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    task, root = load_task(find_task("imagenet")), sample_root("imagenet")
    split = load_split(task, root, lines[0]["split"])
    ids = {line["id"] for line in lines}
    read = read_predictions(answers, task, split, queries=ids)
    by_id = {p.id: p.scores for p in read.predictions}
    for first, second in zip(lines[::2], lines[1::2], strict=True):
        means = tuple((a + b) / 2 for a, b in zip(first["scores"], second["scores"], strict=True))
        assert by_id[first["id"]] == means
    answers.write_text("".join(json.dumps(line) + "\n" for line in lines[:-1]), encoding="utf-8")
    with pytest.raises(PredictionError, match="has answers in 1 of 2 orders"):
        read_predictions(answers, task, split, queries=ids)


def test_decoding_of_the_command_line_is_exported(tmp_path: Path) -> None:
    (line,) = exported(
        tmp_path / "e.jsonl", "vqav2", "--limit", "1", "--beams", "2", "--max-new-tokens", "3", "--shots", "0"
    )
    assert (line["decoding"]["beams"], line["decoding"]["max_new_tokens"]) == (2, 3)
