"""--on-error skip: a demonstration that cannot be shown gives way to the next of the same draw."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from flamingo_eval.config.specs import DecodeSpec, ModelIdentity, RankSpec
from flamingo_eval.data.images import open_image
from flamingo_eval.errors import MediaError, PromptError, RunError
from flamingo_eval.records import Answer, Image, Prompt
from flamingo_eval.report.cells import notes_of
from flamingo_eval.report.tables import table_of
from flamingo_eval.runs.backend import Backend
from flamingo_eval.runs.folder import RunFolder, read_outputs
from flamingo_eval.runs.plan import Choices, plan_runs
from flamingo_eval.runs.questions import load_questions
from flamingo_eval.runs.record import read_run
from flamingo_eval.runs.session import run_all

Run = Callable[..., RunFolder]
MISSING, TRUNCATED = 22, 25  # pictures of the training questions 902 and 905


@pytest.fixture
def broken_root(vqa_root: Path, tmp_path: Path) -> Path:
    """VQAv2 with a missing picture and a truncated one among those of its ten support rows."""
    root = tmp_path / "broken"
    shutil.copytree(vqa_root, root)
    (root / "train2014" / f"COCO_train2014_{MISSING:012d}.jpg").unlink()
    truncated = root / "train2014" / f"COCO_train2014_{TRUNCATED:012d}.jpg"
    truncated.write_bytes(truncated.read_bytes()[:200])
    return root


class OpeningEngine:
    """Answers `red` where every picture of the prompt opens, and fails the query where one does not."""

    def generate(self, prompts: Iterator[Prompt], spec: DecodeSpec) -> Iterator[tuple[int, Answer]]:
        for i, prompt in enumerate(prompts):
            try:
                for part in prompt.parts:
                    if isinstance(part, Image):
                        open_image(part)
            except MediaError as error:
                yield i, Answer(0, error=error)
            else:
                yield i, Answer(1, text="red")

    def score(
        self, prompts: Iterator[Prompt], candidates: Iterator[Sequence[str]], spec: RankSpec
    ) -> Iterator[tuple[int, Answer]]:
        raise AssertionError("an open-ended task")


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """run(root, shots, ...): the folder of a finished run under --on-error skip."""

    def go(root: Path, shots: int, out: str = "out", **choices: Any) -> RunFolder:
        questions, _ = load_questions(["vqav2"], "flamingo")
        runs = plan_runs(questions, Choices(shots=(shots,), data=str(root), on_error="skip", **choices))
        backend = Backend(ModelIdentity("m", "c0ffee", "cpu", "float32"), OpeningEngine())
        records = run_all(runs, lambda _: nullcontext(backend), tmp_path / out)
        assert records is not None
        return records[0].folder

    return go


def shots_of(folder: RunFolder) -> dict[str, tuple[str, ...]]:
    return {o.id: o.shots for o in read_outputs(folder.outputs)[0]}


@pytest.mark.slow
@pytest.mark.parametrize("demos", ["random", "balanced", "fixed"])
def test_no_query_fails_for_a_broken_demonstration(run: Run, broken_root: Path, demos: str) -> None:
    for shots in (2, 4, 8):
        folder = run(broken_root, shots, demos=demos)
        outputs, _ = read_outputs(folder.outputs)
        assert not [o.error for o in outputs if o.error]
        assert not {"902", "905"} & {id for o in outputs for id in o.shots}
    record = read_run(folder.run).passed_over
    assert record is not None
    assert record.count == 2


def test_others_keep_their_place_and_draws_stay_nested(run: Run, vqa_root: Path, broken_root: Path) -> None:
    whole = shots_of(run(vqa_root, 6, out="whole"))
    broken = {k: shots_of(run(broken_root, k)) for k in (2, 4, 6)}
    for id, shots in whole.items():
        kept = [s for s in shots if s not in ("902", "905")]
        assert list(broken[6][id][: len(kept)]) == kept, "the rest of the draw moves up, in its order"
        assert broken[4][id] == broken[6][id][:4]
        assert broken[2][id] == broken[4][id][:2]
    assert read_run(run(vqa_root, 6, out="whole").run).passed_over is None


def test_the_record_and_the_table_say_how_many(run: Run, broken_root: Path) -> None:
    folder = run(broken_root, 4)
    value = read_run(folder.run).passed_over
    assert value is not None
    assert value.count == 2
    assert f"4 shots: support examples skipped: 2 (digest {value.digest})" in "\n".join(notes_of(table_of([folder])))


def test_a_query_without_its_picture_is_counted_and_never_scored(run: Run, broken_root: Path) -> None:
    (broken_root / "val2014" / f"COCO_val2014_{3:012d}.jpg").unlink()
    folder = run(broken_root, 4)
    counts = read_run(folder.run).counts
    assert counts.failed == 2, "two questions ask about the picture"
    assert all(o.score is None for o in read_outputs(folder.outputs)[0] if o.error)


def test_zero_shots_need_no_pictures_of_demonstrations(run: Run, vqa_root: Path, broken_root: Path) -> None:
    assert shots_of(run(broken_root, 0)) == shots_of(run(vqa_root, 0, out="whole"))


def test_a_row_without_an_answer_is_passed_over(run: Run, broken_root: Path) -> None:
    path = broken_root / "v2_mscoco_train2014_annotations.json"
    table = json.loads(path.read_text())
    for row in table["annotations"]:
        if row["question_id"] == 907:
            row["multiple_choice_answer"] = ""
            row["answers"] = [{**a, "answer": ""} for a in row["answers"]]
    path.write_text(json.dumps(table))
    assert "907" not in {id for shots in shots_of(run(broken_root, 4)).values() for id in shots}


def test_too_few_that_can_be_shown_is_an_error_that_says_so(run: Run, broken_root: Path) -> None:
    with pytest.raises(PromptError, match="rows that cannot be read or have no answer are skipped"):
        run(broken_root, 9)


def test_files_that_came_back_do_not_mix_into_an_interrupted_run(run: Run, vqa_root: Path, broken_root: Path) -> None:
    folder = run(broken_root, 4)
    lines = folder.outputs.read_bytes().splitlines(keepends=True)
    folder.outputs.write_bytes(b"".join(lines[:5]))
    folder.scores.unlink()
    assert shots_of(run(broken_root, 4)), "the same files: resumed"
    folder.outputs.write_bytes(b"".join(lines[:5]))
    folder.scores.unlink()
    shutil.copytree(vqa_root, broken_root, dirs_exist_ok=True)
    with pytest.raises(RunError, match="usable demonstrations have changed"):
        run(broken_root, 4)
