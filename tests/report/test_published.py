"""Published rows: the numbers are those of the sources, and they stand beside ours only where they may."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from flamingo_eval.config.groups import GROUPS
from flamingo_eval.config.load import load_prompt
from flamingo_eval.config.names import find_protocol, find_task
from flamingo_eval.config.protocols import load_protocol
from flamingo_eval.config.specs import DecodeOverride, DemoSpec, MetricSpec, RankOverride, RunSpec
from flamingo_eval.data.task_file import load_task
from flamingo_eval.errors import UsageError
from flamingo_eval.metrics import METRICS
from flamingo_eval.report.beside_published import compared, differences, disagreement
from flamingo_eval.report.cells import lines, notes_of
from flamingo_eval.report.formats import csv_text, json_value, latex, markdown
from flamingo_eval.report.published import PRACTICES, Published, find_model, models, published
from flamingo_eval.report.tables import Cell, Row, table_of
from flamingo_eval.runs.record import Counts, RunRecord


def score(model: str, task: str, shots: int, selection: str = "random") -> float:
    (value,) = [
        p.values[shots]
        for p in published()
        if (p.model, p.task, p.selection) == (model, task, selection) and shots in p.values
    ]
    return value


def test_numbers_are_those_of_the_papers() -> None:
    assert score("Flamingo-80B", "coco", 32) == 113.8
    assert score("Flamingo-9B", "vqav2", 4) == 56.3
    assert score("OpenFlamingo-9B", "okvqa", 4) == 40.1
    assert score("OpenFlamingo-9B", "okvqa", 4, "rices") == 42.0
    assert score("IDEFICS-80B", "vqav2", 0) == 60.0


def test_every_score_has_a_source_a_practice_and_a_known_metric() -> None:
    extra = {"textcaps", "nocaps", "scienceqa", "rendered_sst2"}  # printed by IDEFICS, not among the paper's 18
    for p in published():
        assert p.title
        assert p.where
        assert p.source in PRACTICES
        assert p.metric in {row.published for row in METRICS.values()} or p.task in extra
        assert all(0 <= v <= 150 for v in p.values.values()), p


def test_classification_rows_keep_their_support() -> None:
    (best,) = [
        p
        for p in published()
        if p.model == "Flamingo-80B" and p.task == "imagenet" and p.selection == "rices" and p.support_per_class == 5
    ]
    assert best.values == {16: 76.0}
    assert not any("SotA" in m or "NFNet" in m for m in models())


def test_model_names_in_any_case_and_the_nearest_for_a_slip() -> None:
    assert find_model("openflamingo-9b") == "OpenFlamingo-9B"
    with pytest.raises(UsageError, match="Did you mean 'flamingo-9b'"):
        find_model("flamigo-9b")


ROW = Row("vqav2", "test-dev", "vqa_accuracy", "m", "flamingo", "random", "", {4: Cell(50.0, None, (0,), None, 9, 0)})


def flamingo_9b(task: str = "vqav2") -> Published:
    return next(p for p in published() if p.model == "Flamingo-9B" and p.task == task)


@pytest.mark.parametrize(
    ("row", "says"),
    [
        (ROW, ""),
        (replace(ROW, split="val"), "it is of split test-dev, ours of val"),
        (replace(ROW, metric="cider"), "its metric is vqa_accuracy, ours cider"),
        (replace(ROW, cells={2: ROW.cells[4]}), "it is of 0, 4, 8, 16, 32 shots, ours of 2"),
    ],
)
def test_what_must_agree(row: Row, says: str) -> None:
    assert disagreement(flamingo_9b(), row) == says


def test_split_names_that_mean_the_same() -> None:
    flickr = replace(ROW, task="flickr30k", metric="cider", split="test")
    assert disagreement(flamingo_9b("flickr30k"), flickr) == ""
    memes = replace(ROW, task="hateful_memes", metric="roc_auc", split="test_seen")
    assert disagreement(flamingo_9b("hateful_memes"), memes) == ""


def test_a_source_without_splits_agrees_with_nothing() -> None:
    idefics = next(p for p in published() if p.model == "IDEFICS-9B" and p.task == "vqav2")
    assert disagreement(idefics, ROW) == "its source does not state the split"


def record(counts: Counts | None = None, decode: DecodeOverride | None = None, **changes: Any) -> RunRecord:
    """The record of a run over all queries of a VQAv2 of nine questions."""
    task, folder = load_task(find_task("vqav2")), find_protocol(changes.pop("protocol", "flamingo"))
    prompt = load_prompt(folder / "qa.yaml")
    spec = RunSpec(
        task=replace(task, data=replace(task.data, counts={})),
        protocol=load_protocol(folder / "protocol.yaml"),
        prompt=replace(prompt, decode=decode or DecodeOverride()),
        demos=replace(DemoSpec(), **changes),
        model="m",
        model_sha256="0",
        data="vqa",
        split="test-dev",
    )
    return RunRecord(2, "complete", "0", "vqav2", spec, counts=counts or Counts(queries=9, of=9, answered=9))


def test_no_difference_is_invented() -> None:
    assert differences(flamingo_9b(), ROW, [record()]) == ()


def test_every_difference_is_named() -> None:
    counts, decode = Counts(queries=5, of=9, answered=4, failed=1), DecodeOverride(beams=1, length_penalty=1.0)
    other = record(counts, decode, protocol="openflamingo", support_size=0)
    row = replace(ROW, protocol="openflamingo", demos="rices")
    assert differences(flamingo_9b(), row, [other]) == (
        "prompts: theirs flamingo, ours openflamingo",
        "choice of shots: theirs random, ours rices",
        "support size: theirs 2048, ours 0",
        "beams: theirs 3, ours 1",
        "answer scoring: theirs official, ours openflamingo",
        "queries: ours 5 of 9",
        "queries: 1 of ours failed and were not scored",
    )


def test_a_published_row_stands_below_ours_in_every_format(make_run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = [make_run(demos=DemoSpec(shots=k, support_size=8)) for k in (0, 4)]
    table = table_of(folders)
    fake = replace(flamingo_9b(), split="val")  # VQAv2 has no labelled split that Flamingo reports
    monkeypatch.setattr("flamingo_eval.report.beside_published.published", lambda: (fake,))
    both = compared(table, folders, ["flamingo-9b"])
    ours, theirs = both.rows
    assert not ours.published
    assert theirs.published.startswith("Flamingo, arXiv 2204.14198 v1")
    assert {k: c.value for k, c in theirs.cells.items()} == {0: 51.8, 4: 56.3}
    assert "queries: ours 12 of 214354" in theirs.differences, "a copy smaller than the benchmark is a difference"
    assert lines(both)[1][3:] == ["Flamingo-9B [1]", "flamingo", "-", "51.8", "56.3"]
    assert notes_of(both)[-1].startswith("[1] Flamingo-9B, published: ")
    assert "| Flamingo-9B [1] |" in markdown(both)
    assert "Flamingo-9B [1]" in latex(both)
    assert csv_text(both).splitlines()[-1].split(",")[9] == "56.3"
    assert json_value(both)["rows"][1]["published"] == theirs.published


def test_what_is_left_out_says_why(make_run: Any) -> None:
    folders = [make_run(shots=4)]
    table = compared(table_of(folders), folders, ["flamingo-9b", "idefics-9b"])
    assert len(table.rows) == 1
    assert table.footnotes == (
        "Flamingo-9B on vqav2 is left out: it is of split test-dev, ours of val",
        "IDEFICS-9B on vqav2 is left out: its source does not state the split",
    )


def test_sample_scores_are_never_put_beside_published_ones(make_run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = [make_run(shots=4, data="sample")]
    monkeypatch.setattr(
        "flamingo_eval.report.beside_published.published", lambda: (replace(flamingo_9b(), split="val"),)
    )
    table = compared(table_of(folders), folders, ["flamingo-9b"])
    assert len(table.rows) == 1
    assert "never compared" in table.footnotes[0]


def test_vl_icl_is_of_the_released_scorer_and_never_matching() -> None:
    mine = [p for p in published() if p.source == "vl-icl-figure"]
    assert {p.task for p in mine} == set(GROUPS["vl_icl"]) - {"vl_icl_matching_mi"}
    assert all("Read from a figure, +-0.6" in p.notes for p in mine)
    (clevr,) = [p for p in mine if (p.model, p.task) == ("LLaVA-OneVision-72B", "vl_icl_clevr")]
    assert (clevr.values, clevr.seeds, clevr.selection) == ({0: 0.5, 1: 37.1, 2: 32.1, 4: 31.8, 8: 42.3}, 3, "random")


def test_vl_icl_names_the_form_that_each_model_was_asked_in() -> None:
    forms = {p.model: p.asked_in for p in published() if p.source == "vl-icl-figure"}
    assert forms["OpenFlamingo-9B"] == "vl_icl"
    assert forms["LLaVA-OneVision-72B"] == "vl_icl_turn"
    assert forms["IDEFICS-80B-instruct"] == "vl_icl_idefics"
    assert forms["GPT-4V"] == "vl_icl in the form of GPT-4V"


def smmile_record(task: str, every: bool, **changes: Any) -> RunRecord:
    spec = load_task(find_task(task))
    folder = find_protocol("smmile")
    run = RunSpec(
        task=replace(spec, **changes),
        protocol=load_protocol(folder / "protocol.yaml"),
        prompt=load_prompt(folder / f"{task.replace('_plusplus', '')}.yaml"),
        demos=DemoSpec(shots=7, every=every, support_size=0),
        model="m",
        model_sha256="0",
        data="smmile",
        split="query",
    )
    return RunRecord(2, "complete", "0", task, run, counts=Counts(queries=111, of=111, answered=111))


def test_smmile_with_all_shots_stands_below_the_column_of_all() -> None:
    gpt, *_ = (p for p in published() if (p.model, p.task) == ("gpt-4o", "smmile"))
    assert (gpt.values, gpt.all_shots, gpt.at_all_shots(7).values) == ({0: 0.0}, 9.01, {0: 0.0, 7: 9.01})
    row = Row("smmile", "query", "exact_match", "m", "smmile", "random", "", {7: Cell(50.0, None, (0,), None, 9, 0)})
    assert disagreement(gpt, row) == "it is of 0, all shots, ours of 7"
    assert disagreement(gpt.at_all_shots(7), row) == ""
    whole = smmile_record("smmile", True)
    assert differences(gpt.at_all_shots(7), row, [whole]) == ()
    other = smmile_record("smmile", True, metrics=(MetricSpec("exact_match", "exact"),))
    assert differences(gpt.at_all_shots(7), row, [other]) == ("answer scoring: theirs smmile, ours exact",)
    (majority,) = (p for p in published() if p.model == "majority of the shots")
    assert (majority.values, majority.all_shots) == ({}, 27.03)


def test_smmile_multiple_choice_is_of_letters() -> None:
    qwen, *_ = (p for p in published() if (p.model, p.task) == ("Qwen2.5-VL-7B", "smmile_mcqa"))
    row = Row("smmile_mcqa", "query", "top1", "m", "flamingo", "random", "", {0: Cell(50.0, None, (0,), None, 9, 0)})
    ranked = smmile_record("smmile_mcqa", False)
    ranked = replace(ranked, spec=replace(ranked.spec, prompt=replace(ranked.spec.prompt, rank=RankOverride())))
    assert differences(qwen, row, [ranked]) == (
        "prompts: theirs smmile, ours flamingo",
        "candidates to score: theirs letter, ours all",
    )
