"""evaluate(): what may stand in the model's place, what the record says of it, and when runs are taken up again."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from flamingo_eval import Answer, evaluate, load_model
from flamingo_eval.config.specs import DecodeSpec, RankSpec
from flamingo_eval.errors import RunError, UsageError
from flamingo_eval.records import Prompt


class Own:
    """Answers `red`, and the first candidate; counts what it is asked."""

    def __init__(self, **names: str) -> None:
        self.asked = 0
        for name, value in names.items():
            setattr(self, name, value)

    def generate(self, prompts: Iterator[Prompt], spec: DecodeSpec) -> Iterator[tuple[int, Answer]]:
        for i, _ in enumerate(prompts):
            self.asked += 1
            yield i, Answer(3, text=" red")

    def score(
        self, prompts: Iterator[Prompt], candidates: Iterator[Sequence[str]], spec: RankSpec
    ) -> Iterator[tuple[int, Answer]]:
        for i, (_, names) in enumerate(zip(prompts, candidates, strict=False)):
            self.asked += 1
            yield i, Answer(3, scores=tuple(-float(k) for k in range(len(names))))


def record_of(result: Any) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(result.runs[0].folder.run.read_text())
    return record


@pytest.mark.slow
def test_two_methods_suffice_for_open_and_close_ended_tasks(vqa_root: Path, tmp_path: Path) -> None:
    own = Own()
    result = evaluate(own, "vqav2", shots=(0, 2), seeds=(0, 1), data=vqa_root, out=tmp_path)
    assert [(r.spec.demos.shots, r.spec.demos.seed) for r in result.runs] == [(0, 0), (0, 1), (2, 0), (2, 1)]
    assert own.asked == 4 * 12
    ranked = evaluate(own, ["hateful_memes"], shots=2, limit=4, out=tmp_path)
    assert set(ranked.frame["metric"]) == {"roc_auc", "top1"}
    assert len(ranked.queries) == 4


def test_the_best_candidate_alone_needs_no_third_method(tmp_path: Path) -> None:
    result = evaluate(Own(), "imagenet", shots=0, limit=2, rank="best", out=tmp_path)
    lines = [json.loads(line) for line in result.runs[0].folder.outputs.read_text().splitlines()]
    assert [line["best"] for line in lines] == [{"candidate": 0, "score": 0.0}] * 2
    assert all("scores" not in line for line in lines)


def test_the_record_says_of_a_model_what_it_says_itself(vqa_root: Path, tmp_path: Path) -> None:
    spec = record_of(evaluate(Own(), "vqav2", shots=0, data=vqa_root, out=tmp_path))["spec"]
    assert (spec["model"], spec["model_sha256"], spec["device"]) == ("Own", "unknown", "unknown")
    named = Own(name="mine", sha256="ab12", device="cuda:0", dtype="torch.float16")
    named.device = "cpu:0"  # type: ignore[attr-defined]
    spec = record_of(evaluate(named, "vqav2", shots=0, data=vqa_root, out=tmp_path))["spec"]
    assert (spec["model"], spec["model_sha256"]) == ("mine", "ab12")
    assert (spec["device"], spec["dtype"]) == ("cpu", "float16")


def test_a_model_without_a_digest_is_asked_anew_and_one_with_it_is_not(vqa_root: Path, tmp_path: Path) -> None:
    unknown, named = Own(), Own(name="mine", sha256="ab12")
    for own in (unknown, named):
        for _ in range(2):
            evaluate(own, "vqav2", shots=0, data=vqa_root, out=tmp_path)
    assert (unknown.asked, named.asked) == (24, 12)
    evaluate(unknown, "vqav2", shots=0, data=vqa_root, out=tmp_path, fresh=False)
    evaluate(named, "vqav2", shots=0, data=vqa_root, out=tmp_path, fresh=True)
    assert (unknown.asked, named.asked) == (24, 24)


@pytest.mark.slow
def test_a_name_and_a_loaded_model_are_the_same_run(tmp_path: Path) -> None:
    named = evaluate("tiny", "vqav2", shots=1, limit=4, out=tmp_path, device="cpu")
    loaded = evaluate(load_model("tiny"), "vqav2", shots=1, limit=4, out=tmp_path)
    assert loaded.runs[0].cached
    assert loaded.runs[0].folder == named.runs[0].folder
    again = evaluate(load_model("tiny"), "vqav2", shots=1, limit=4, out=tmp_path / "again")
    assert again.runs[0].folder.outputs.read_text() == named.runs[0].folder.outputs.read_text()


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        (["red"], "expected .index of the prompt, Answer., got 'red'"),
        ([(0, Answer(1, text="a")), (0, Answer(1, text="a"))], "index 0 is repeated"),
        ([(12, Answer(1, text="a"))], "index 12 is of no prompt"),
        ([(0, Answer(1, text="a"))], "1 answers to 12 prompts"),
        ([(0, Answer(1))], "neither text nor error"),
    ],
)
def test_an_engine_that_breaks_the_protocol_is_told_how(
    vqa_root: Path, tmp_path: Path, answers: list[Any], message: str
) -> None:
    class Broken(Own):
        def generate(self, prompts: Iterator[Prompt], spec: DecodeSpec) -> Iterator[Any]:
            list(prompts)
            yield from answers

    with pytest.raises(RunError, match=message):
        evaluate(Broken(), "vqav2", shots=0, data=vqa_root, out=tmp_path)


def test_too_few_scores_are_named(tmp_path: Path) -> None:
    class Short(Own):
        def score(self, prompts: Any, candidates: Any, spec: RankSpec) -> Iterator[tuple[int, Answer]]:
            for i, (_, names) in enumerate(zip(prompts, candidates, strict=False)):
                yield i, Answer(1, scores=(0.0,) * (len(names) - 1))

    with pytest.raises(RunError, match="has 2 candidates, got 1 scores"):
        evaluate(Short(), "hateful_memes", shots=0, limit=2, out=tmp_path)


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="a dict is not a model: generate and score missing"):
        evaluate({}, "vqav2")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="integers"):
        evaluate(Own(), "vqav2", shots=(-1,))
    with pytest.raises(UsageError, match="has no features"):
        evaluate(Own(), "vqav2", shots=1, limit=2, demos="rices", out=tmp_path)


class Lists:
    """Returns lists in step with the lists it gets."""

    batch_size = 3

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.turns = 0

    def generate(self, prompts: Sequence[Prompt], spec: DecodeSpec) -> list[str]:
        self.sizes.append(len(prompts))
        self.turns = len(prompts[0].turns)
        return ["red" for _ in prompts]

    def score(
        self, prompts: Sequence[Prompt], candidates: Sequence[Sequence[str]], spec: RankSpec
    ) -> list[list[float]]:
        return [[-float(len(name)) for name in names] for _, names in zip(prompts, candidates, strict=True)]


@pytest.mark.slow
def test_methods_that_return_lists_get_lists(tmp_path: Path) -> None:
    model = Lists()
    result = evaluate(model, ("vqav2", "hateful_memes"), shots=1, limit=7, out=tmp_path)
    assert model.sizes == [3, 3, 1]
    assert model.turns == 3
    assert {r.spec.protocol.name for r in result.runs} == {"chat"}
    assert set(result.frame["model"]) == {"Lists"}
