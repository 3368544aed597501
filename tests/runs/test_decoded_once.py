"""No picture or clip is decoded twice in a run, whatever its format, and none whose tokens are in the cache."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from PIL import Image as PillowImage

from flamingo_eval.backends.hf import opened
from flamingo_eval.backends.hf.shape import hf_shape
from flamingo_eval.config.specs import DemoMethod, OnError
from flamingo_eval.data import check, videos
from flamingo_eval.data.images import open_image
from flamingo_eval.data.videos import open_video
from flamingo_eval.models import preprocess
from flamingo_eval.records import Image, Video
from flamingo_eval.runs.backend import Backend, identity_of, load_backend
from flamingo_eval.runs.plan import Choices, PlannedRun, plan_runs
from flamingo_eval.runs.questions import load_questions
from flamingo_eval.runs.runner import FinishedRun
from flamingo_eval.runs.session import run_all
from flamingo_eval.sample import sample_root
from tests.support.tiny_vlm import save_tiny

FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "AVIF", "JPEG2000")


@pytest.fixture
def root(vqa_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the small VQAv2 with pictures of several formats, all different, and empty caches."""
    monkeypatch.setenv("FLAMINGO_EVAL_CACHE", str(tmp_path / "cache"))
    copy = Path(shutil.copytree(vqa_root, tmp_path / "vqa"))
    for n, path in enumerate(sorted(copy.glob("*2014/*"))):
        with PillowImage.open(path) as picture:
            different = picture.convert("RGB").resize((40 + n, 30))
        different.save(path, FORMATS[n % len(FORMATS)])  # what a file is stands in it, not in its name
    return copy


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each picture was decoded, by the name of its file."""
    counts: Counter[str] = Counter()

    def counted(image: Image) -> PillowImage.Image:
        counts[image.path.name] += 1
        return open_image(image)

    def counted_clip(video: Video, *options: Any, **named: Any) -> list[PillowImage.Image]:
        counts[video.path.name] += 1
        return open_video(video, *options, **named)

    for module in (preprocess, check):
        monkeypatch.setattr(module, "open_image", counted)
    for module in (preprocess, videos):
        monkeypatch.setattr(module, "open_video", counted_clip)
    return counts


def run_with(
    root: Path,
    out: Path,
    demos: DemoMethod = "random",
    seeds: Sequence[int] = (0,),
    on_error: OnError = "stop",
    task: str = "vqav2",
    limit: int | None = None,
    model: str = "tiny",
) -> list[FinishedRun]:
    questions, _ = load_questions([task], "flamingo")
    choices = Choices((0, 2), tuple(seeds), demos, data=str(root), on_error=on_error, limit=limit)

    @contextmanager
    def opened(_: Sequence[PlannedRun]) -> Iterator[Backend]:
        with closing(load_backend(model, "cpu", "float32", workers=0)) as backend:
            yield backend

    records = run_all(plan_runs(questions, choices), opened, out, identity=identity_of(model, "cpu", "float32"))
    assert records is not None
    return records


def shown(root: Path) -> int:
    return len(list(root.glob("val2014/*")))


@pytest.mark.slow
def test_a_picture_is_decoded_once_over_all_runs_of_a_command(
    root: Path, tmp_path: Path, decoded: Counter[str]
) -> None:
    run_with(root, tmp_path / "out", seeds=(0, 1))
    assert set(decoded.values()) == {1}
    assert len(decoded) > shown(root)
    decoded.clear()
    run_with(root, tmp_path / "again", seeds=(0, 1))
    assert not decoded


@pytest.mark.slow
def test_a_clip_is_decoded_once_over_all_runs_of_a_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, decoded: Counter[str]
) -> None:
    root = sample_root("msvdqa")
    monkeypatch.setenv("FLAMINGO_EVAL_CACHE", str(tmp_path / "cache"))
    run_with(root, tmp_path / "out", task="msvdqa", limit=3)
    assert set(decoded.values()) == {1}
    assert len(decoded) > 3
    decoded.clear()
    run_with(root, tmp_path / "again", task="msvdqa", limit=3)
    assert not decoded


@pytest.mark.slow
def test_rices_and_the_answers_share_what_they_decode(root: Path, tmp_path: Path, decoded: Counter[str]) -> None:
    first = run_with(root, tmp_path / "out", "rices")
    assert set(decoded.values()) == {1}
    assert len(decoded) == len(list(root.glob("*2014/*")))
    decoded.clear()
    again = run_with(root, tmp_path / "again", "rices")
    assert not decoded
    assert [r.folder.outputs.read_bytes() for r in again] == [r.folder.outputs.read_bytes() for r in first]


@pytest.mark.slow
@pytest.mark.parametrize("demos", ["random", "rices"])
def test_a_model_of_transformers_opens_each_picture_once(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, demos: DemoMethod
) -> None:
    counts: Counter[str] = Counter()

    def counted(image: Image) -> PillowImage.Image:
        if image.path.is_relative_to(root):  # the check of a model opens a picture of its own
            counts[image.path.name] += 1
        return open_image(image)

    monkeypatch.setattr(opened, "open_image", counted)
    save_tiny("idefics3", tmp_path / "vlm")
    run_with(root, tmp_path / "out", demos, model=f"hf:{tmp_path / 'vlm'}", limit=4)
    assert set(counts.values()) == {1}
    assert len(counts) > 4
    counts.clear()
    hf_shape.cache_clear()  # as a new process
    run_with(root, tmp_path / "again", demos, model=f"hf:{tmp_path / 'vlm'}", limit=4)
    assert not counts or demos == "random"  # a few prompts are measured before the weights are read


@pytest.mark.slow
@pytest.mark.parametrize("demos", ["random", "rices"])
def test_what_is_looked_at_under_on_error_skip_is_not_decoded_again(
    root: Path, tmp_path: Path, decoded: Counter[str], demos: DemoMethod
) -> None:
    broken = next(root.glob("train2014/*.jpg"))
    data = broken.read_bytes()
    broken.write_bytes(data[: len(data) // 2])
    run_with(root, tmp_path / "out", demos, on_error="skip")
    assert {count for name, count in decoded.items() if name != broken.name} == {1}
    decoded.clear()
    run_with(root, tmp_path / "again", demos, on_error="skip")
    assert not [name for name in decoded if "val2014" in name]  # their tokens are cached
