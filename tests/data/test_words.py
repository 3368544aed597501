"""Pictures in words: text twins of VL-ICL and COCO's captions beside VQA's questions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flamingo_eval.config.names import find_task
from flamingo_eval.data.layouts import load_split
from flamingo_eval.data.task_file import load_task
from flamingo_eval.data.words import with_words
from flamingo_eval.errors import DataError, UsageError
from flamingo_eval.prompting.ablations import check_ablation_of
from flamingo_eval.records import IN_WORDS, Split
from flamingo_eval.runs.task_data import load_data

CLEVR = load_task(find_task("vl_icl_clevr"))


def write_clevr(root: Path, twins: list[dict[str, object]]) -> None:
    rows = [
        {"id": f"clevr_{part}_{n}", "image": [f"clevr/{part}/{n}.png"], "question": "shape: cube", "answer": n}
        for part in ("query", "support")
        for n in range(2)
    ]
    for folder in ("clevr", "clevr_text"):
        (root / folder).mkdir()
    for part in ("query", "support"):
        (root / "clevr" / f"{part}.json").write_text(json.dumps([r for r in rows if part in str(r["id"])]))
    (root / "clevr_text" / "support.json").write_text(json.dumps(twins))


def words(split: Split) -> list[object]:
    return [e.labels.get(IN_WORDS) for e in split.examples]


def test_a_twin_s_row_is_known_by_its_id(tmp_path: Path) -> None:
    twins: list[dict[str, object]] = [
        {"id": "clevr_text_support_1", "question": "a cube and a ball. shape: cube", "answer": 1},
        {"id": "clevr_support_0", "text": "a small cube", "question": "shape: cube", "answer": 0},
    ]
    write_clevr(tmp_path, twins)
    plain = load_split(CLEVR, tmp_path, "support", media=False)
    split = with_words(CLEVR, tmp_path, plain)
    assert words(split) == ["a small cube", "a cube and a ball. shape: cube"]
    assert split.files == (*plain.files, tmp_path / "clevr_text" / "support.json")
    assert words(plain) == [None, None]


def test_files_of_words_count_for_runs_that_show_them_alone(tmp_path: Path) -> None:
    write_clevr(tmp_path, [{"id": f"clevr_support_{n}", "text": f"scene {n}", "question": "q"} for n in range(2)])
    assert "clevr_text/support.json" not in load_data(CLEVR, tmp_path, media=False).inputs
    data = load_data(CLEVR, tmp_path, media=False, ablation="images-in-words")
    assert "clevr_text/support.json" in data.inputs
    check_ablation_of(CLEVR, "images-in-words", data.support)


def test_rows_without_words_are_named_before_a_model_is_loaded(tmp_path: Path) -> None:
    write_clevr(tmp_path, [{"id": "clevr_support_0", "text": "a cube", "question": "q"}])
    data = load_data(CLEVR, tmp_path, media=False, ablation="images-in-words")
    with pytest.raises(UsageError, match=r"1 rows of split 'support' \('clevr_support_1'\)"):
        check_ablation_of(CLEVR, "images-in-words", data.support)


def test_a_broken_twin_is_an_error(tmp_path: Path) -> None:
    write_clevr(tmp_path, [])
    (tmp_path / "clevr_text" / "support.json").write_text('[{"id": "clevr_support_1", "text": 3}]')
    with pytest.raises(DataError):
        load_data(CLEVR, tmp_path, media=False, ablation="images-in-words")


def test_coco_s_captions_are_the_words_of_vqa_s_pictures(vqa_root: Path, tmp_path: Path) -> None:
    task = load_task(find_task("vqav2"))
    for file in vqa_root.glob("*.json"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    plain = load_split(task, tmp_path, "train", media=False)
    pictures = sorted({int(e.media_id.rsplit("_", 1)[1].split(".")[0]) for e in plain.examples})
    annotations = [
        {"id": 10 * picture + n, "image_id": picture, "caption": f" wall {picture}, caption {n}"}
        for picture in pictures
        for n in (1, 0)
    ]
    (tmp_path / "captions_train2014.json").write_text(json.dumps({"annotations": annotations}))
    assert words(with_words(task, tmp_path, plain)) == [f"wall {picture}, caption 0" for picture in pictures]
