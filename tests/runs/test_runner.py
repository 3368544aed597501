"""runner.py: interruptions, failures and limits change nothing that is finished."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flamingo_eval.config.names import find_protocol, shipped
from flamingo_eval.config.protocols import load_protocol
from flamingo_eval.config.specs import DecodeSpec, DemoSpec, PromptSpec, RankOverride, RankSpec, RunSpec
from flamingo_eval.data.task_file import load_task
from flamingo_eval.errors import MediaError, RunError
from flamingo_eval.records import Answer, Episode, Example, Image, Output, Prompt, Split
from flamingo_eval.runs.answer import answer, shot_orders
from flamingo_eval.runs.folder import RunFolder, read_outputs
from flamingo_eval.runs.runner import run
from flamingo_eval.runs.scores import coverage
from flamingo_eval.runs.task_data import TaskData, load_data
from tests.support.fixture_types import MakeRun
from tests.support.vqa_spec import vqa_spec


def by_prompt(prompt: Prompt) -> str:
    """Text that depends on all the model is shown."""
    return f" {len(prompt.parts)} {sum(len(p) for p in prompt.parts if isinstance(p, str))} {prompt.id}"


def files(folder: RunFolder) -> tuple[str, str]:
    return folder.scores.read_text(), folder.outputs.read_text()


@pytest.mark.parametrize("stop_after", [0, 1, 5, 11])
def test_an_interrupted_run_ends_as_an_uninterrupted_one(make_run: MakeRun, stop_after: int) -> None:
    whole = files(make_run(by_prompt, shots=4, out="whole"))
    queries: list[str] = []

    def stops(prompt: Prompt) -> str:
        if len(queries) == stop_after:
            raise KeyboardInterrupt
        queries.append(prompt.id)
        return by_prompt(prompt)

    with pytest.raises(KeyboardInterrupt):
        make_run(stops, shots=4, out="cut")
    again: list[str] = []

    def goes_on(prompt: Prompt) -> str:
        again.append(prompt.id)
        return by_prompt(prompt)

    folder = make_run(goes_on, shots=4, out="cut")
    assert files(folder) == whole
    assert not set(queries) & set(again)
    counts = json.loads(folder.run.read_text())["counts"]
    assert counts == {"queries": 12, "of": 12, "answered": 12, "failed": 0, "resumed": stop_after}


def test_a_finished_run_is_not_done_again(make_run: MakeRun) -> None:
    first = files(make_run(by_prompt, out="r"))

    def never(prompt: Prompt) -> str:
        raise AssertionError("asked again")

    assert files(make_run(never, out="r")) == first


def test_a_limit_changes_nothing_for_the_queries_it_keeps(make_run: MakeRun) -> None:
    whole = {o.id: o for o in read_outputs(make_run(by_prompt, shots=2).outputs)[0]}
    kept = read_outputs(make_run(by_prompt, shots=2, limit=5).outputs)[0]
    assert len(kept) == 5
    assert all(whole[o.id] == o for o in kept)


def test_the_folder_holds_no_machine_path_and_no_time_in_scores(make_run: MakeRun, vqa_root: Path) -> None:
    folder = make_run(by_prompt)
    everything = "".join(p.read_text() for p in folder.path.iterdir())
    assert str(vqa_root.parent) not in everything
    assert set(json.loads(folder.scores.read_text())) == {
        "schema", "task", "split", "model", "protocol", "shots", "text_only_shots", "demos", "seed", "ablation",
        "scores",
    }  # fmt: skip
    record = json.loads(folder.run.read_text())
    assert record["status"] == "complete"
    assert record["spec"]["text_only_shots"] == 2
    assert len(record["inputs"]) == 5  # the checkpoint, two files of each split
    assert record["provenance"]["packages"]["torch"]


class FailingEngine:
    """Answers, but for the queries it cannot."""

    def __init__(self, failing: Sequence[str]) -> None:
        self.failing = failing
        self.stats: Mapping[str, Any] = {}

    def generate(self, prompts: Iterator[Prompt], spec: DecodeSpec) -> Iterator[tuple[int, Answer]]:
        for i, prompt in enumerate(prompts):
            if prompt.id in self.failing:
                yield i, Answer(0, error=MediaError(f"{prompt.id}.jpg: cut"))
            else:
                yield i, Answer(5, text="red")

    def score(
        self, prompts: Iterator[Prompt], candidates: Iterator[Sequence[str]], spec: RankSpec
    ) -> Iterator[tuple[int, Answer]]:
        for i, (prompt, names) in enumerate(zip(prompts, candidates, strict=False)):
            texts = [p for p in prompt.parts if isinstance(p, str)]
            yield i, Answer(5, scores=tuple(-float(len(n)) - (hash_of(texts) % 100) / 100 for n in names))


def hash_of(parts: Sequence[str]) -> int:
    return sum((i + 1) * ord(c) for i, c in enumerate("".join(parts)))


def spec_and_data(root: Path, **changes: Any) -> tuple[RunSpec, TaskData]:
    spec = vqa_spec(DemoSpec(shots=1), **changes)
    return spec, load_data(spec.task, root)


def test_a_failure_stops_the_run_and_names_the_query(vqa_root: Path, tmp_path: Path) -> None:
    spec, data = spec_and_data(vqa_root)
    with pytest.raises(RunError, match=r"query 103: 103\.jpg: cut"):
        run(spec, data, FailingEngine(["103"]), tmp_path)


def test_skipped_failures_are_counted_listed_and_never_scored(vqa_root: Path, tmp_path: Path) -> None:
    spec, data = spec_and_data(vqa_root, on_error="skip")
    record = run(spec, data, FailingEngine(["103", "100"]), tmp_path)
    assert (record.n, record.n_failed) == (12, 2)
    assert record.scores[0].n == 10
    assert record.scores[0].value == 0.0  # query 100 is the red one
    failed = [o for o in read_outputs(record.folder.outputs)[0] if o.error]
    assert [(o.id, o.score) for o in failed] == [("100", None), ("103", None)]


def test_a_run_whose_every_query_fails_is_an_error_and_is_tried_again(vqa_root: Path, tmp_path: Path) -> None:
    spec, data = spec_and_data(vqa_root, on_error="skip")
    with pytest.raises(RunError, match=r"vqav2: all 12 queries failed, so there is no score.\n100.jpg: cut"):
        run(spec, data, FailingEngine([e.id for e in data.queries.examples]), tmp_path)
    assert run(spec, data, FailingEngine(["100"]), tmp_path).n_failed == 1


def test_an_episode_without_a_prompt_fails_alone(vqa_root: Path, tmp_path: Path) -> None:
    spec, data = spec_and_data(vqa_root, on_error="skip", limit=None)
    rows = list(data.queries.examples)
    rows[3] = replace(rows[3], fields={"question": "what is <image>?"})
    data = replace(data, queries=replace(data.queries, examples=tuple(rows)))
    record = run(spec, data, FailingEngine([]), tmp_path)
    assert record.n_failed == 1
    assert "reserved text" in read_outputs(record.folder.outputs)[0][3].error


def close_ended(permutations: int) -> RunSpec:
    task = replace(load_task(shipped("tasks") / "vqav2.yaml"), mode="close-ended")
    prompt = PromptSpec(
        "p",
        "{{ question }}{{ answer }}",
        "{{ question }}",
        " {{ candidate }}",
        rank=RankOverride(permutations=permutations),
    )
    protocol = load_protocol(find_protocol("flamingo") / "protocol.yaml")
    return RunSpec(task, protocol, prompt, DemoSpec(shots=3), "m", "0", "d", "val")


def example(n: int) -> Example:
    return Example(str(n), (Image(f"{n}.jpg"),), str(n), {"question": f"q{n}"}, f"a{n}", candidates=("x", "yy"))


def test_permutations_average_log_likelihoods() -> None:
    episodes = [Episode(example(0), (example(1), example(2), example(3))), Episode(example(4), (example(5),))]
    split = Split("val", (), ())
    single = {
        order: next(iter(answer([_in_order(episodes[0], order)], close_ended(1), split, FailingEngine([])))).scores
        for order in shot_orders(episodes[0], close_ended(6))
    }
    assert len(single) == 6
    outputs = {o.id: o for o in answer(episodes, close_ended(6), split, FailingEngine([]))}
    means = [sum(column) / 6 for column in zip(*single.values(), strict=True)]
    assert outputs["0"].scores == pytest.approx(means, abs=1e-6)
    assert outputs["0"].shots == ("1", "2", "3")
    assert len(shot_orders(episodes[1], close_ended(6))) == 1
    assert shot_orders(episodes[0], close_ended(1)) == [(0, 1, 2)]


def _in_order(episode: Episode, order: tuple[int, ...]) -> Episode:
    return replace(episode, shots=tuple(episode.shots[i] for i in order))


def test_an_unlabelled_split_has_no_score(vqa_root: Path, tmp_path: Path) -> None:
    spec, data = spec_and_data(vqa_root)
    data = replace(data, queries=replace(data.queries, labelled=False))
    record = run(spec, data, FailingEngine([]), tmp_path)
    assert record.scores[0].value is None
    assert "evaluation server" in record.scores[0].why_undefined
    submission = json.loads((record.folder.path / "submission.json").read_text())
    assert submission == [{"question_id": 100 + i, "answer": "red"} for i in range(12)]


def test_a_submission_answers_every_query_of_the_split(vqa_root: Path, tmp_path: Path) -> None:
    spec, data = spec_and_data(vqa_root, on_error="skip", limit=6)
    data = replace(data, queries=replace(data.queries, labelled=False))
    record = run(spec, data, FailingEngine([data.queries.examples[0].id]), tmp_path)
    submission = json.loads((record.folder.path / "submission.json").read_text())
    answered = [o.id for o in read_outputs(record.folder.outputs)[0] if not o.error]
    assert sorted(row["question_id"] for row in submission) == list(range(100, 112))
    assert {str(row["question_id"]) for row in submission if row["answer"]} == set(answered)


def test_coverage_is_what_the_shots_show() -> None:
    support = {"1": replace(example(1), answer="dax"), "2": replace(example(2), answer="wug")}
    queries = [replace(example(n), references=(name,)) for n, name in ((8, "dax"), (9, "fep"))]
    kept = [(Output(q.id, ("1", "2"), 0), q) for q in queries]
    assert coverage(kept, support) == 50.0
