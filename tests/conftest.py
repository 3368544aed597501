"""Real run folders without a model: a small VQAv2 in the official layout, and an engine whose answers the test sets."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from flamingo_eval.config.load import load_prompt
from flamingo_eval.config.names import find_protocol, shipped
from flamingo_eval.config.protocols import load_protocol
from flamingo_eval.config.specs import DecodeSpec, DemoSpec, RankSpec, RunSpec
from flamingo_eval.data.task_file import load_task
from flamingo_eval.records import Answer, Prompt
from flamingo_eval.runs.folder import RunFolder
from flamingo_eval.runs.runner import run
from flamingo_eval.runs.task_data import load_data
from tests.support.fixture_types import MakeRun, TaskNamed, Write

NO_SKIP = tuple(filter(None, os.environ.get("FLAMINGO_EVAL_NO_SKIP", "").split(",")))  # markers: `browser,wups`
COLOURS = ("red", "green", "blue", "yellow", "white", "black")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that need NLTK's data are marked `wups`; files with slow tests come first, for even workers."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])
    for item in items:
        if "nltk_data" in getattr(item, "fixturenames", ()):
            item.add_marker("wups")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A skipped test with a marker of FLAMINGO_EVAL_NO_SKIP fails, so that CI never skips it silently."""
    report = yield
    if report.skipped and any(item.get_closest_marker(name) for name in NO_SKIP):
        report.outcome = "failed"
        report.longrepr = f"skipped, though FLAMINGO_EVAL_NO_SKIP names it: {report.longrepr}"
    return report


def _write_vqa(root: Path, split: str, first_id: int, questions: Sequence[tuple[int, str, str, str]]) -> None:
    """questions: picture, question, answer, answer type."""
    year = f"{split}2014"
    questions_list = [
        {"question_id": first_id + i, "image_id": p, "question": q} for i, (p, q, _, _) in enumerate(questions)
    ]
    annotations = [
        {
            "question_id": first_id + i,
            "image_id": picture,
            "answers": [{"answer": answer, "answer_id": k + 1} for k in range(10)],
            "answer_type": kind,
            "question_type": " ".join(question.split()[:2]),
            "multiple_choice_answer": answer,
        }
        for i, (picture, question, answer, kind) in enumerate(questions)
    ]
    for name, rows in (
        (f"v2_OpenEnded_mscoco_{year}_questions.json", {"data_subtype": year, "questions": questions_list}),
        (f"v2_mscoco_{year}_annotations.json", {"data_subtype": year, "annotations": annotations}),
    ):
        (root / name).write_text(json.dumps(rows))
    (root / year).mkdir()
    for picture in {p for p, *_ in questions}:
        image = Image.new("RGB", (96, 64), COLOURS[picture % len(COLOURS)])
        image.paste("grey", (20 + picture, 20, 40 + picture, 40))
        image.save(root / year / f"COCO_{year}_{picture:012d}.jpg")


@pytest.fixture(scope="session")
def vqa_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """VQAv2 with 12 validation questions on 6 pictures (ids 100...) and 10 training questions."""
    root = tmp_path_factory.mktemp("vqa")
    val = [(p, f"What colour is square {p}?", COLOURS[p], "other") for p in range(6)]
    val += [(p, "How many squares are there?", "1", "number") for p in range(6)]
    train = [(20 + i, f"What colour is wall {i}?", COLOURS[(20 + i) % 6], "other") for i in range(10)]
    _write_vqa(root, "val", 100, val)
    _write_vqa(root, "train", 900, train)
    return root


class SayingEngine:
    """Answers each prompt by a function of it."""

    def __init__(self, say: Callable[[Prompt], str]) -> None:
        self.say = say
        self.stats: Mapping[str, Any] = {}

    def generate(self, prompts: Iterator[Prompt], spec: DecodeSpec) -> Iterator[tuple[int, Answer]]:
        for i, prompt in enumerate(prompts):
            yield i, Answer(tokens=10, text=self.say(prompt))

    def score(
        self, prompts: Iterator[Prompt], candidates: Iterator[Sequence[str]], spec: RankSpec
    ) -> Iterator[tuple[int, Answer]]:
        raise NotImplementedError("no close-ended task here")


@pytest.fixture
def make_run(run_maker: Callable[[Path], MakeRun], tmp_path: Path) -> MakeRun:
    """make_run(say, shots=0, seed=0, model="m", ...): a complete run folder below tmp_path/results."""
    return run_maker(tmp_path)


@pytest.fixture(scope="session")
def run_maker(vqa_root: Path) -> Callable[[Path], MakeRun]:
    """run_maker(folder): a make_run that writes there."""
    return lambda folder: _make_run(vqa_root, folder)


def _make_run(vqa_root: Path, below: Path) -> MakeRun:
    def make(
        say: Callable[[Prompt], str] | str = "red",
        shots: int = 0,
        seed: int = 0,
        model: str = "m",
        data: str = "vqa",
        protocol: str = "flamingo",
        split: str = "val",
        out: str = "results",
        sha256: str = "c0ffee",
        **changes: Any,
    ) -> RunFolder:
        task = load_task(shipped("tasks") / "vqav2.yaml")
        folder = find_protocol(protocol)
        spec = RunSpec(
            task=task,
            protocol=load_protocol(folder / "protocol.yaml"),
            prompt=load_prompt(folder / "qa.yaml"),
            demos=DemoSpec(shots=shots, seed=seed),
            model=model,
            model_sha256=sha256,
            data=data,
            split=split,
        )
        engine = SayingEngine(say if callable(say) else lambda prompt: say)
        loaded = load_data(task, vqa_root, split)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "fsync", lambda _: None)  # these files need not survive a power cut
            return run(replace(spec, **changes), loaded, engine, below / out).folder

    return make


@pytest.fixture
def saying_engine() -> type[SayingEngine]:
    return SayingEngine


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """write("folder/file.json", value): JSON for .json, one object per line for .jsonl, text and bytes unchanged."""

    def _write(name: str, value: object = b"") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(value, bytes):
            path.write_bytes(value)
        elif isinstance(value, str):
            path.write_text(value, encoding="utf-8")
        elif name.endswith(".jsonl") and isinstance(value, Iterable):
            path.write_text("".join(json.dumps(row) + "\n" for row in value), encoding="utf-8")
        else:
            path.write_text(json.dumps(value), encoding="utf-8")
        return path

    return _write


@pytest.fixture
def task() -> TaskNamed:
    """task("vqav2"): a shipped task."""
    return lambda name: load_task(shipped("tasks") / f"{name}.yaml")
