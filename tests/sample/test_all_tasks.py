"""Every task has a sample in its official layout that its own loader reads, with both parts and readable media."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from flamingo_eval.config.names import task_names
from flamingo_eval.data.check import check_task
from flamingo_eval.data.layouts import load_split
from flamingo_eval.data.task_file import load_task
from flamingo_eval.errors import DataError, MediaError
from flamingo_eval.records import Split
from flamingo_eval.runs.plan import Choices, plan_runs
from flamingo_eval.runs.preflight import media_shown, require_readable
from flamingo_eval.runs.questions import load_question
from flamingo_eval.sample import sample_root
from flamingo_eval.sample.benchmarks import actions, classification, draws, fastbind, isekai, smmile, true_micl, writers
from flamingo_eval.sample.benchmarks.table import BUILDERS
from flamingo_eval.sample.fresh.dials import DIALS, ClevrDials, MatchingDials, OpenMiDials, TextDials
from tests.support.slow import first_and_slow

TASKS = Path(__file__).parents[2] / "tasks"
SMALL: dict[ModuleType, dict[str, object]] = {
    writers: {"PARTS": {"train2014": ("train", 6, 1), "val2014": ("eval", 4, 101)}},
    fastbind: {"POOLS": 2, "VIEWS": 4, "SHOT_VIEWS": 2, "QUERIES": 2, "OBJECTS": 8},
    draws: {"TRAIN_ROWS": 16, "EVAL_ROWS": 8},
    classification: {"CLASSES": 4, "TRAIN_VIEWS": 3, "EVAL_VIEWS": 2},
    smmile: {"PROBLEMS": 6, "PERMUTED": 3, "ORDERS": 2},
    isekai: {"CREATURES": 2, "QUERIES": 2, "PICTURES": 2},
    true_micl: {"QUERIES": 5, "SUPPORT": 7, "ASKED": 2},
    actions: {"OBJECTS": 2, "TRAIN_CLIPS": 2, "EVAL_CLIPS": 1, "EVAL_ROWS": 8},
}
SMALL_DIALS = {
    "vl_icl_open_mi": OpenMiDials(queries=4, classes=3, pictures=2),
    "vl_icl_clevr": ClevrDials(queries=6, support=8),
    "vl_icl_textocr": TextDials(queries=6, support=8),
    "vl_icl_matching_mi": MatchingDials(queries=6, support=4),
}


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLAMINGO_EVAL_CACHE", str(tmp_path_factory.mktemp("cache")))
        for module, values in SMALL.items():
            for name, value in values.items():
                patch.setattr(module, name, value)
        for task, dials in SMALL_DIALS.items():
            patch.setitem(DIALS, task, dials)
        yield


def test_every_task_has_a_sample() -> None:
    assert sorted(BUILDERS) == sorted(task_names())


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(BUILDERS))
def test_the_loader_reads_both_parts(name: str) -> None:
    task = load_task(TASKS / f"{name}.yaml")
    root = sample_root(name)
    queries = load_split(task, root, task.data.query)
    assert len(queries.examples) >= 4
    assert len({e.id for e in queries.examples}) == len(queries.examples)
    assert queries.labelled
    if task.data.support is None:
        assert task.max_shots == 0
        return
    support = load_split(task, root, task.data.support)
    assert len(support.examples) >= 6
    assert not {e.media_id for e in queries.examples} & {e.media_id for e in support.examples}


@pytest.mark.parametrize("name", first_and_slow(sorted(BUILDERS)))
def test_check_finds_nothing_but_counts_that_are_not_the_official_ones(name: str) -> None:
    """Every picture and clip is there and opens."""
    report = check_task(load_task(TASKS / f"{name}.yaml"), sample_root(name))
    assert sum(s.media for s in report.splits) >= 3
    assert [str(p) for p in report.problems if "official" not in str(p)] == []


@pytest.mark.parametrize("name", first_and_slow(sorted(BUILDERS)))
def test_what_is_broken_is_named_by_check_and_by_run(name: str, tmp_path: Path) -> None:
    """A missing and a cut picture or clip: `check` finds both, a run stops before the model or counts them."""
    question = load_question(name, "flamingo")
    root = tmp_path / name
    shutil.copytree(sample_root(name), root)
    queries = load_split(question.task, root, question.task.data.query).examples
    files = list(dict.fromkeys(m.path for e in queries for m in e.media))
    cut, gone = files[0], files[-1]
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    by_folder = name in ("imagenet", "kinetics700")  # their folders are their lists: a missing file is not a row
    if gone != cut and not by_folder:
        gone.unlink()
    problems = "\n".join(str(p) for p in check_task(question.task, root).problems)
    assert cut.name in problems
    assert by_folder or gone.stem in problems or gone == cut

    shots = 0 if question.task.max_shots == 0 else 1
    (run,) = plan_runs([question], Choices(shots=(shots,), data=str(root)))
    with pytest.raises(MediaError, match=cut.name):
        require_readable(media_shown(run))


@pytest.mark.parametrize("name", first_and_slow(sorted(BUILDERS)))
def test_a_list_cut_in_the_middle_is_named(name: str, tmp_path: Path) -> None:
    task = load_task(TASKS / f"{name}.yaml")
    root = tmp_path / name
    shutil.copytree(sample_root(name), root)
    splits = [s for s in (task.data.query, task.data.support) if s]

    def load_all() -> list[Split]:
        return [load_split(task, root, split) for split in splits]

    for file in sorted({p for split in load_all() for p in split.files}):
        whole = file.read_bytes()
        file.write_bytes(cut_inside_a_row(whole))
        with pytest.raises(DataError, match=file.name):
            load_all()
        file.write_bytes(whole)


def cut_inside_a_row(text: bytes) -> bytes:
    """Nine bytes into the last line where there are lines, in the middle otherwise."""
    start = text.rstrip().rfind(b"\n")
    return text[: start + 9] if start > 0 else text[: len(text) // 2]
