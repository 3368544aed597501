"""Writers of the sample benchmarks in their official layouts. One function a task; BUILDERS is the table of them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path

from flamingo_eval.sample.benchmarks.vqav2_coco import ANSWER_TYPES, EVAL_PICTURES, TRAIN_PICTURES, Pictured, draw_part
from flamingo_eval.sample.world.render import render
from flamingo_eval.sample.world.scenes import Scene

Builder = Callable[[Path], None]
PARTS = {"train2014": ("train", TRAIN_PICTURES, 1), "val2014": ("eval", EVAL_PICTURES, 100_001)}
JPEG_QUALITY = 92


def write_json(path: Path, value: object) -> None:
    """JSON in a file, its folder made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")


def write_picture(path: Path, scene: Scene) -> None:
    """A scene as a JPEG file, its folder made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    render(scene).save(path, quality=JPEG_QUALITY)


def coco_name(subset: str, id: int) -> str:
    """COCO_train2014_000000000001.jpg"""
    return f"COCO_{subset}_{id:012d}.jpg"


def _write_pictures(root: Path, subset: str, pictures: Sequence[Pictured]) -> None:
    for p in pictures:
        write_picture(root / subset / coco_name(subset, p.id), p.scene)


def build_vqav2(root: Path) -> None:
    """v2_OpenEnded_mscoco_*_questions.json, v2_mscoco_*_annotations.json and the pictures."""
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
        _write_pictures(root, subset, pictures)


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
}


def build(task: str, root: Path) -> None:
    """Write one task's sample into a folder."""
    module, _, function = BUILDERS[task].partition(":")
    builder: Builder = getattr(import_module(module), function)
    builder(root)
