"""Writers of the sample's VQAv2 and COCO in their official layouts, and of the files that all samples have."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from flamingo_eval.sample.benchmarks.vqav2_coco import ANSWER_TYPES, EVAL_PICTURES, TRAIN_PICTURES, Pictured, draw_part
from flamingo_eval.sample.world.render import render
from flamingo_eval.sample.world.scenes import Scene

PARTS = {"train2014": ("train", TRAIN_PICTURES, 1), "val2014": ("eval", EVAL_PICTURES, 100_001)}
JPEG_QUALITY = 92


def write_json(path: Path, value: object) -> None:
    """Write JSON; creates the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")


def write_picture(path: Path, scene: Scene) -> None:
    """Write a scene as a JPEG file; creates the folder."""
    save_picture(path, render(scene))


def save_picture(path: Path, picture: Image.Image) -> None:
    """Write a picture in the format of its suffix; creates the folder."""
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
