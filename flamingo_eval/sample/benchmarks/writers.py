"""Writers of the sample benchmarks in their official layouts. One function a task; BUILDERS is the table of them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path

from PIL import Image

from flamingo_eval.sample.benchmarks.vqav2_coco import ANSWER_TYPES, EVAL_PICTURES, TRAIN_PICTURES, Pictured, draw_part
from flamingo_eval.sample.fresh.dials import DIALS, Dials
from flamingo_eval.sample.world.render import render
from flamingo_eval.sample.world.scenes import Scene, drawn_from

PARTS = {"train2014": ("train", TRAIN_PICTURES, 1), "val2014": ("eval", EVAL_PICTURES, 100_001)}
JPEG_QUALITY = 92


def write_json(path: Path, value: object) -> None:
    """JSON in a file, its folder made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")


def write_picture(path: Path, scene: Scene) -> None:
    """A scene as a JPEG file, its folder made."""
    save_picture(path, render(scene))


def save_picture(path: Path, picture: Image.Image) -> None:
    """A picture as a file of its name's kind, its folder made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, quality=JPEG_QUALITY)


def coco_name(subset: str, id: int) -> str:
    """COCO_train2014_000000000001.jpg"""
    return f"COCO_{subset}_{id:012d}.jpg"


def _write_pictures(root: Path, subset: str, pictures: Sequence[Pictured]) -> None:
    for p in pictures:
        write_picture(root / subset / coco_name(subset, p.id), p.scene)


def build_vqav2(root: Path) -> None:
    """v2_OpenEnded_mscoco_*_questions.json, v2_mscoco_*_annotations.json, captions_train2014.json and the pictures."""
    for subset, (part, n, first_id) in PARTS.items():
        pictures = draw_part(part, n, first_id)
        questions = [{"image_id": p.id, "question": p.asked.question, "question_id": p.id * 1000} for p in pictures]
        head = {"info": {"description": "flamingo-eval sample"}, "data_type": "mscoco", "data_subtype": subset}
        write_json(
            root / f"v2_OpenEnded_mscoco_{subset}_questions.json",
            {**head, "task_type": "Open-Ended", "questions": questions},
        )
        write_json(
            root / f"v2_mscoco_{subset}_annotations.json",
            {**head, "annotations": [_vqa_annotation(p) for p in pictures]},
        )
        if part == "train":
            write_json(root / f"captions_{subset}.json", {**head, "annotations": _captions(pictures)})
        _write_pictures(root, subset, pictures)


def _captions(pictures: Sequence[Pictured]) -> list[dict[str, object]]:
    """COCO's captions of the same pictures."""
    return [
        {"id": p.id * 10 + number, "image_id": p.id, "caption": caption}
        for p in pictures
        for number, caption in enumerate(p.captions)
    ]


def _vqa_annotation(p: Pictured) -> dict[str, object]:
    answers = [
        {"answer_id": i, "answer": a, "answer_confidence": "yes" if a == p.asked.answer else "maybe"}
        for i, a in enumerate(p.answers, start=1)
    ]
    return {
        "question_id": p.id * 1000,
        "image_id": p.id,
        "question_type": " ".join(p.asked.question.split()[:2]),
        "answer_type": ANSWER_TYPES.get(p.asked.type, "other"),
        "multiple_choice_answer": Counter(p.answers).most_common(1)[0][0],
        "answers": answers,
    }


def build_coco(root: Path) -> None:
    """dataset_coco.json (Karpathy), annotations/captions_val2014.json and the pictures."""
    images: list[dict[str, object]] = []
    sentence_id = 0
    for subset, (part, n, first_id) in PARTS.items():
        pictures = draw_part(part, n, first_id)
        for p in pictures:
            ids = list(range(sentence_id, sentence_id + len(p.captions)))
            sentence_id += len(ids)
            sentences = [
                {"tokens": c.split(), "raw": c, "imgid": len(images), "sentid": s}
                for c, s in zip(p.captions, ids, strict=True)
            ]
            images.append(
                {
                    "filepath": subset,
                    "sentids": ids,
                    "filename": coco_name(subset, p.id),
                    "imgid": len(images),
                    "split": "train" if part == "train" else "test",
                    "sentences": sentences,
                    "cocoid": p.id,
                }
            )
        _write_pictures(root, subset, pictures)
        if part == "eval":
            write_json(root / "annotations" / f"captions_{subset}.json", _coco_captions(subset, pictures))
    write_json(root / "dataset_coco.json", {"images": images, "dataset": "coco"})


def _coco_captions(subset: str, pictures: Sequence[Pictured]) -> dict[str, object]:
    return {
        "info": {"description": "flamingo-eval sample"},
        "images": [{"id": p.id, "file_name": coco_name(subset, p.id), "width": 128, "height": 128} for p in pictures],
        "annotations": [
            {"image_id": p.id, "id": p.id * 10 + i, "caption": c} for p in pictures for i, c in enumerate(p.captions)
        ],
        "licenses": [],
    }


# the function of a task with dials takes them after the folder (sample/fresh/dials.py)
BUILDERS: Mapping[str, str] = {
    "vqav2": "flamingo_eval.sample.benchmarks.writers:build_vqav2",
    "coco": "flamingo_eval.sample.benchmarks.writers:build_coco",
    "fastbind": "flamingo_eval.sample.benchmarks.fastbind:build_fastbind",
    "okvqa": "flamingo_eval.sample.benchmarks.image_qa:build_okvqa",
    "vizwiz": "flamingo_eval.sample.benchmarks.image_qa:build_vizwiz",
    "textvqa": "flamingo_eval.sample.benchmarks.image_qa:build_textvqa",
    "gqa": "flamingo_eval.sample.benchmarks.image_qa:build_gqa",
    "textcaps": "flamingo_eval.sample.benchmarks.captioning:build_textcaps",
    "flickr30k": "flamingo_eval.sample.benchmarks.captioning:build_flickr30k",
    "nocaps": "flamingo_eval.sample.benchmarks.captioning:build_nocaps",
    "imagenet": "flamingo_eval.sample.benchmarks.classification:build_imagenet",
    "hateful_memes": "flamingo_eval.sample.benchmarks.hateful_memes:build_hateful_memes",
    "visdial": "flamingo_eval.sample.benchmarks.visdial:build_visdial",
    "msvdqa": "flamingo_eval.sample.benchmarks.video:build_msvdqa",
    "msrvttqa": "flamingo_eval.sample.benchmarks.video:build_msrvttqa",
    "ivqa": "flamingo_eval.sample.benchmarks.video:build_ivqa",
    "nextqa": "flamingo_eval.sample.benchmarks.video:build_nextqa",
    "star": "flamingo_eval.sample.benchmarks.video:build_star",
    "vatex": "flamingo_eval.sample.benchmarks.video:build_vatex",
    "youcook2": "flamingo_eval.sample.benchmarks.video:build_youcook2",
    "rareact": "flamingo_eval.sample.benchmarks.actions:build_rareact",
    "kinetics700": "flamingo_eval.sample.benchmarks.actions:build_kinetics700",
    "vl_icl_open_mi": "flamingo_eval.sample.fresh.objects:build_open_mi",
    "vl_icl_matching_mi": "flamingo_eval.sample.fresh.objects:build_matching_mi",
    "vl_icl_clevr": "flamingo_eval.sample.fresh.clevr:build_clevr",
    "vl_icl_operator_induction": "flamingo_eval.sample.fresh.operators:build_operator_induction",
    "vl_icl_operator_induction_interleaved": "flamingo_eval.sample.fresh.operators:build_interleaved",
    "vl_icl_textocr": "flamingo_eval.sample.fresh.textocr:build_textocr",
    "smmile": "flamingo_eval.sample.benchmarks.smmile:build_smmile",
    "smmile_plusplus": "flamingo_eval.sample.benchmarks.smmile:build_permutations",
    "smmile_mcqa": "flamingo_eval.sample.benchmarks.smmile:build_smmile",
    "smmile_plusplus_mcqa": "flamingo_eval.sample.benchmarks.smmile:build_permutations",
    "isekai_10": "flamingo_eval.sample.benchmarks.isekai:build_isekai_10",
    "isekai_pair": "flamingo_eval.sample.benchmarks.isekai:build_isekai_pair",
    "truemicl_operator_induction": "flamingo_eval.sample.benchmarks.true_micl:build_operator_induction",
    "truemicl_clevr": "flamingo_eval.sample.benchmarks.true_micl:build_clevr",
    "truemicl_sudoku": "flamingo_eval.sample.benchmarks.true_micl:build_sudoku",
    "truemicl_shapes_count": "flamingo_eval.sample.benchmarks.true_micl:build_shapes_count",
}


def build(task: str, root: Path, seed: int | None = None, dials: Dials | None = None) -> None:
    """Write one task's files into a folder: the sample's, or those of a fresh copy by its seed and dials."""
    module, _, function = BUILDERS[task].partition(":")
    builder: Callable[..., None] = getattr(import_module(module), function)
    task_dials = dials or DIALS.get(task)
    with drawn_from(seed):
        builder(root, task_dials) if task_dials else builder(root)
