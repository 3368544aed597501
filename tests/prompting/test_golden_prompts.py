"""`flamingo-eval show TASK --shots 2` for every task in every protocol that covers it, character by character.

The texts are those of the embedded sample. After a change that is meant, run this file with GOLDEN=write in the
environment and read the difference.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from flamingo_eval.config.names import find_protocol, protocol_names, shipped, task_names
from flamingo_eval.config.protocols import NoPromptError, find_prompt
from flamingo_eval.config.specs import TaskSpec
from flamingo_eval.data.roots import DataRoot
from flamingo_eval.data.task_file import load_task
from flamingo_eval.prompting.prompts import candidate_text, render, shown
from flamingo_eval.runs import plan
from flamingo_eval.runs.plan import Choices, PlannedRun, plan_runs
from flamingo_eval.runs.questions import load_question
from flamingo_eval.runs.task_data import TaskData, load_data
from flamingo_eval.sample.benchmarks import true_micl, writers
from flamingo_eval.sample.fresh import clevr, objects, operators, textocr
from flamingo_eval.sample.world import clips

GOLDEN = Path(__file__).parents[1] / "golden" / "prompts"
SHOTS = (0, 2)
CANDIDATES = 3  # written out of each list
MORE_THAN_LETTERS = ("imagenet", "kinetics700")  # 32 classes in the sample


def covered() -> Iterator[tuple[str, str]]:
    """(protocol, task) where the protocol has a prompt for the task."""
    prompts = {task: load_task(shipped("tasks") / f"{task}.yaml").prompt for task in task_names()}
    for protocol in protocol_names():
        for task in task_names():
            if protocol.endswith("_letter") and task in MORE_THAN_LETTERS:
                continue
            try:
                find_prompt(find_protocol(protocol), prompts[task])
            except NoPromptError:
                continue
            yield protocol, task


CASES = tuple(covered())


def read_once(load: Callable[..., TaskData]) -> Callable[..., TaskData]:
    """`load_data`, with each task's files read once: they are the same in every protocol."""
    known: dict[tuple[object, ...], TaskData] = {}

    def read(task: TaskSpec, root: DataRoot, *options: Any, **named: Any) -> TaskData:
        key = (task.name, str(root), options, tuple(named.items()))
        if key not in known:
            known[key] = load(task, root, *options, **named)
        return known[key]

    return read


@pytest.fixture(scope="module", autouse=True)
def texts_of_the_sample(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The sample with its real texts and one grey dot for every picture: prompts do not depend on pixels."""
    dot = Image.new("RGB", (16, 16), "gray")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLAMINGO_EVAL_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setattr(writers, "render", lambda scene: dot)
        patch.setattr(clips, "render_clip", lambda scene, frames: [dot])
        patch.setattr(plan, "load_data", read_once(load_data))
        for module in (clevr, objects, operators, textocr, true_micl):
            patch.setattr(module, "save", lambda pixels, path: writers.save_picture(path, dot))
        yield


def text_of(protocol: str, task: str) -> str:
    """The golden text: one part for each number of shots."""
    question = load_question(task, protocol)
    runs = plan_runs([question], Choices(shots=SHOTS))
    return "\n".join(part(run) for run in runs)


def part(run: PlannedRun) -> str:
    episode = run.episode(0)
    prompt = render(episode, run.prompt, run.protocol, run.data.queries.candidates)
    names = (episode.query.candidates or run.data.queries.candidates)[:CANDIDATES]
    lines = [f"# {run.demos.shots} shots", shown(prompt, run.protocol)]
    return "\n".join([*lines, *(f"  |{candidate_text(name, run.prompt)}|" for name in names), ""])


def test_every_task_is_covered_by_the_papers_protocol() -> None:
    assert {task for protocol, task in CASES if protocol == "flamingo"} == set(task_names())
    assert {protocol for protocol, _ in CASES} == {
        "chat", "chat_letter", "flamingo", "flamingo_letter", "openflamingo", "idefics",
        "vl_icl", "vl_icl_idefics", "vl_icl_turn", "vl_icl_turns",
        "smmile", "isekai", "isekai_turns",
    }  # fmt: skip


def test_every_task_is_covered_by_the_chat_protocol() -> None:
    assert {task for protocol, task in CASES if protocol == "chat"} == set(task_names())


@pytest.mark.parametrize(
    ("protocol", "task"),
    [pytest.param(*case, marks=() if case[0] == "flamingo" else pytest.mark.slow) for case in CASES],
)
def test_the_prompt_is_the_golden_one(protocol: str, task: str) -> None:
    file = GOLDEN / protocol / f"{task}.txt"
    text = text_of(protocol, task)
    if os.environ.get("GOLDEN") == "write":
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    assert file.read_text(encoding="utf-8") == text


def test_no_golden_file_is_left_over() -> None:
    assert {(p.parent.name, p.stem) for p in GOLDEN.glob("*/*.txt")} == set(CASES)
