"""Clips for models of transformers: as videos where the family takes them, as frames otherwise."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from flamingo_eval import Prompt, Turn, Video, load_model
from flamingo_eval.backends.hf.check import FILM
from flamingo_eval.backends.hf.clips import Clip, video_inputs
from flamingo_eval.backends.hf.model import HFModel
from flamingo_eval.backends.hf.pictures import PictureFields, fields_from_bytes, fields_to_bytes
from flamingo_eval.cli import app
from flamingo_eval.data.videos import spread_frames
from flamingo_eval.errors import UsageError
from tests.support.tiny_video import TORCHVISION, VIDEO, save_tiny_video

ROOT = Path(__file__).parents[2]
without_torchvision = pytest.mark.skipif(find_spec("torchvision") is not None, reason="torchvision is installed")
WITHOUT_FEATURES = ("internvl", "smolvlm")  # their frames go through the picture's code


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """By family: what `hf:` and transformers say."""
    if not TORCHVISION.is_dir():
        pytest.skip(f"torchvision is not in {TORCHVISION.name}: make test installs it")
    folder = tmp_path_factory.mktemp("videos")
    folders = [str(save_tiny_video(family, folder / family)) for family in VIDEO]
    paths = os.pathsep.join([str(ROOT), str(TORCHVISION)])
    ran = subprocess.run(
        [sys.executable, "-m", "tests.support.ask_videos", *folders],
        env={**os.environ, "PYTHONPATH": paths, "FLAMINGO_EVAL_CACHE": str(folder / "cache")},
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr[-3000:]
    return dict(zip(VIDEO, map(json.loads, ran.stdout.splitlines()), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("family", VIDEO)
def test_clips_are_shown_as_videos_and_answers_are_those_of_transformers(asked: dict[str, Any], family: str) -> None:
    got, expected = asked[family]["got"], asked[family]["expected"]
    assert got["ids"] == expected["ids"]
    assert got["tokens"] == [len(ids) for ids in expected["ids"]]
    assert got["texts"] == got["alone"] == expected["texts"]
    np.testing.assert_allclose(got["scores"], expected["scores"], atol=2e-4)
    assert abs(got["reversed"][0] - got["scores"][0][0]) > 1e-3  # clips are looked at, in their order


@pytest.mark.slow
@pytest.mark.parametrize("family", VIDEO)
def test_a_clip_is_encoded_once_where_the_family_takes_features(asked: dict[str, Any], family: str) -> None:
    about = asked[family]["record"]
    assert about["clips"] == "shown as videos"
    assert about["clip_features_kept"] is (family not in WITHOUT_FEATURES)
    if family in WITHOUT_FEATURES:
        assert "prompts with clips are read one at a time" in about["notices"][0]
    else:  # three clips, two of which the check at load has, and its two pictures, of which LLaVA crops a lone one
        assert asked[family]["encoded"] == (6 if family == "llava_onevision" else 5)
    first, second = np.array(asked[family]["vectors"])
    assert np.linalg.norm(first) == pytest.approx(1)
    assert float(first @ second) < 0.9999


@pytest.fixture(scope="module")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_video("qwen2_5_vl", tmp_path_factory.mktemp("qwen") / "model")


@without_torchvision
def test_without_torchvision_clips_are_frames_and_the_record_says_so(qwen: Path) -> None:
    model = load_model(f"hf:{qwen}", device="cpu", dtype="float32")
    assert isinstance(model, HFModel)
    assert model.record["clips"] == "shown as frames"
    prompt = Prompt([Turn("user", [Video(FILM), "What?"])])
    assert model.shape.reader.text(prompt).count("<|image_pad|>") == 8


@without_torchvision
def test_a_run_says_how_clips_are_shown_and_the_record_too(qwen: Path, tmp_path: Path) -> None:
    words = ["run", "msvdqa", "--shots", "0", "--limit", "2", "--model", f"hf:{qwen}", "--out", str(tmp_path)]
    result = CliRunner().invoke(app, words, catch_exceptions=True)
    assert result.exit_code == 0, result.output
    assert "clips are shown as 8 pictures (its video processor needs torchvision" in " ".join(result.stderr.split())
    (record,) = tmp_path.rglob("run.json")
    assert json.loads(record.read_text())["model"]["clips"] == "shown as frames"


@without_torchvision
def test_asked_for_videos_without_torchvision_it_says_what_to_install(qwen: Path) -> None:
    with pytest.raises(UsageError, match="torchvision") as caught:
        load_model(f"hf:{qwen}", model_args="clips=video")
    assert "flamingo-eval[hf]" in str(caught.value)


def test_another_way_to_show_clips_is_an_error(qwen: Path) -> None:
    with pytest.raises(UsageError, match="clips=film: give video or frames"):
        load_model(f"hf:{qwen}", model_args="clips=film")


def test_a_frame_stands_for_the_middle_of_its_part() -> None:
    frames, seconds = spread_frames(Video(FILM, 0.5, 1.5), 4)
    assert (len(frames), seconds) == (4, 1.0)
    assert len(spread_frames(Video(FILM), 100)[0]) == 100  # more than the file has: some stand twice
    given = Clip(np.zeros((4, 8, 8, 3), np.uint8), seconds).metadata
    times = [i / given["fps"] for i in given["frames_indices"]]
    assert times == pytest.approx([0.125, 0.375, 0.625, 0.875])
    assert len(given["frames_indices"]) / given["total_num_frames"] * given["fps"] == pytest.approx(4)


def test_prompts_without_clips_get_no_argument_for_videos() -> None:
    assert video_inputs([]) == {}


def test_a_videos_fields_go_to_disk_and_back() -> None:
    from transformers.video_utils import VideoMetadata

    metadata = VideoMetadata(**Clip(np.zeros((4, 8, 8, 3), np.uint8), 2.0).metadata)
    grid = torch.tensor([[2, 4, 4]])
    content = fields_to_bytes(PictureFields({"video_grid_thw": grid, "video_metadata": [metadata]}))
    assert content is not None
    again = fields_from_bytes(content).fields
    assert again["video_metadata"] == [metadata]
    assert torch.equal(again["video_grid_thw"], grid)
