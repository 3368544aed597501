"""OK-VQA, VizWiz, TextVQA and GQA in their official layouts."""

from __future__ import annotations

from pathlib import Path

from flamingo_eval.sample.benchmarks.draws import answers_of, ask_about, draw, rng_of, rows, scene_of
from flamingo_eval.sample.benchmarks.writers import coco_name, write_json, write_picture
from flamingo_eval.sample.world.wording import NONSENSE

OKVQA_TYPES = ("shelf", "kind", "where")
VIZWIZ_TYPES = ("what", "colour", "count")
GQA_TYPES = ("what", "where", "colour", "present", "count")
UNANSWERABLE = 0.15  # share of VizWiz questions whose picture does not show the answer


def build_okvqa(root: Path) -> None:
    """OpenEnded_mscoco_*_questions.json, mscoco_*_annotations.json and the pictures."""
    for part, subset in (("train", "train2014"), ("eval", "val2014")):
        rows = draw("okvqa", part, OKVQA_TYPES)
        questions, annotations = [], []
        for d in rows:
            id, image = (d.number + 1) * 1000, d.number + 1
            questions.append({"image_id": image, "question": d.asked.question, "question_id": id})
            answers = [
                {"answer_id": i, "raw_answer": a, "answer_confidence": "yes", "answer": a}
                for i, a in enumerate(answers_of("okvqa", d.number, d.asked, d.scene), start=1)
            ]
            annotations.append(
                {
                    "image_id": image,
                    "answer_type": "other",
                    "question_type": "one",
                    "question_id": id,
                    "answers": answers,
                    "confidence": 5,
                }
            )
            write_picture(root / subset / coco_name(subset, image), d.scene)
        head = {"info": {"description": "flamingo-eval sample"}, "data_type": "mscoco", "data_subtype": subset}
        write_json(
            root / f"OpenEnded_mscoco_{subset}_questions.json",
            {**head, "task_type": "Open-Ended", "questions": questions},
        )
        write_json(root / f"mscoco_{subset}_annotations.json", {**head, "annotations": annotations})


def build_vizwiz(root: Path) -> None:
    """Annotations/{train,val}.json and the pictures; some questions are unanswerable."""
    for part, subset in (("train", "train"), ("eval", "val")):
        records = []
        for d in draw("vizwiz", part, VIZWIZ_TYPES):
            answerable = rng_of("vizwiz", "answerable", d.number).random() >= UNANSWERABLE
            name = f"VizWiz_{subset}_{d.number:08d}.jpg"
            question = d.asked.question if answerable else "what does the sign say?"
            answers = answers_of("vizwiz", d.number, d.asked, d.scene) if answerable else ["unanswerable"] * 10
            number = "number" if d.asked.type == "count" else "other"
            records.append(
                {
                    "image": name,
                    "question": question,
                    "answers": [{"answer_confidence": "yes", "answer": a} for a in answers],
                    "answer_type": number if answerable else "unanswerable",
                    "answerable": int(answerable),
                }
            )
            write_picture(root / subset / name, d.scene)
        write_json(root / "Annotations" / f"{subset}.json", records)


def build_textvqa(root: Path) -> None:
    """TextVQA_0.5.1_{train,val}.json and train_images, which has the pictures of both."""
    for part, subset in (("train", "train"), ("eval", "val")):
        data = []
        for n in rows(part):
            word = rng_of("textvqa", "sign", n).choice(NONSENSE)
            image = f"{n:016x}"
            data.append(
                {
                    "question": "what does the sign say?",
                    "image_id": image,
                    "image_classes": ["Sign"],
                    "question_id": n + 1,
                    "question_tokens": ["what", "does", "the", "sign", "say"],
                    "answers": [word] * 10,
                    "set_name": subset,
                }
            )
            write_picture(root / "train_images" / f"{image}.jpg", scene_of("textvqa", n, sign=word))
        head = {"dataset_type": subset, "dataset_name": "textvqa", "dataset_version": "0.5.1"}
        write_json(root / f"TextVQA_0.5.1_{subset}.json", {**head, "data": data})


def build_gqa(root: Path) -> None:
    """{train,testdev}_balanced_questions.json and images; two questions per picture."""
    for part, subset in (("train", "train"), ("eval", "testdev")):
        questions: dict[str, dict[str, object]] = {}
        for n in rows(part)[::2]:
            scene = scene_of("gqa", n)
            for id in (n, n + 1):
                question = ask_about("gqa", scene, GQA_TYPES, id)
                questions[f"{id:08d}"] = {
                    "imageId": str(n),
                    "question": question.question,
                    "answer": question.answer,
                    "fullAnswer": f"{question.answer}.",
                    "isBalanced": True,
                }
            write_picture(root / "images" / f"{n}.jpg", scene)
        write_json(root / f"{subset}_balanced_questions.json", questions)
