"""docs/add-a-task.md: its files are written as they stand there, and do what the page says."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from PIL import Image as PillowImage

from flamingo_eval.config.load import load_prompt
from flamingo_eval.config.names import find_protocol
from flamingo_eval.config.protocols import find_prompt, load_protocol
from flamingo_eval.data.check import check_task
from flamingo_eval.data.layouts import LAYOUTS, load_split
from flamingo_eval.data.task_file import load_task
from flamingo_eval.prompting.prompts import render, shown
from flamingo_eval.records import Episode
from tests.support.fixture_types import Write

PAGE = (Path(__file__).parents[2] / "docs/add-a-task.md").read_text()
FILES = dict(re.findall(r"^`([\w.]+)`[^\n]*\n\n```\w+\n(.*?)```", PAGE, re.MULTILINE | re.DOTALL))


@pytest.fixture
def page(write: Write) -> None:
    """The page's files in a folder, and pictures beside them."""
    for name, text in FILES.items():
        write(name, text)
    file = io.BytesIO()
    PillowImage.new("RGB", (8, 8)).save(file, "JPEG")
    for n in range(1, 6):
        write(f"pictures/shelf{n}.jpg", file.getvalue())


@pytest.mark.usefixtures("page")
def test_own_rows_are_read_checked_and_shown(tmp_path: Path) -> None:
    task = load_task(tmp_path / "shelves.yaml")
    report = check_task(task, tmp_path)
    assert [(s.name, s.rows, s.missing) for s in report.splits] == [("val", 2, 0), ("train", 3, 0)]
    assert report.problems == ()
    queries, shots = load_split(task, tmp_path, "val").examples, load_split(task, tmp_path, "train").examples
    assert [e.references for e in queries] == [("book", "novel"), ("lamp",)]
    folder = find_protocol("flamingo")
    protocol, prompt = load_protocol(folder / "protocol.yaml"), load_prompt(find_prompt(folder, task.prompt))
    text = shown(render(Episode(queries[0], shots[:2]), prompt, protocol), protocol)
    assert f"```text\n{text}\n```" in PAGE


@pytest.mark.usefixtures("page")
def test_a_known_layout_needs_its_yaml_alone(write: Write, tmp_path: Path) -> None:
    for split, ids in {"train": (1, 2), "val": (3,)}.items():
        rows = [{"question_id": i, "image_id": i, "question": "What?"} for i in ids]
        write(f"questions/{split}.json", {"questions": rows})
        records = [{"question_id": i, "image_id": i, "answers": [{"answer": "boat"}]} for i in ids]
        write(f"harbour_{split}_annotations.json", {"annotations": records})
    picture = write("images/val/harbour_000003.jpg")
    task = load_task(tmp_path / "harbour.yaml")
    (example,) = load_split(task, tmp_path, "val").examples
    assert (example.media[0].path, example.references) == (picture, ("boat",))
    report = check_task(task, tmp_path)
    assert [(s.name, s.rows, s.official, s.missing) for s in report.splits] == [("val", 1, 1, 0), ("train", 2, 2, 2)]


def test_the_page_lists_every_layout_with_its_roles() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| [^|]+ \| ([^|]+) \|$", PAGE, re.MULTILINE))
    documented = {name: set(re.findall(r"`(\w+)`", roles)) for name, roles in rows.items()}
    assert documented == {name: set(layout.roles) for name, layout in LAYOUTS.items()}
