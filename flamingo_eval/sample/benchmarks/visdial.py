"""VisDial 1.0 in its official layout: dialogues over shared texts, 100 candidates per round, one dense round each.

Dialogues have three rounds, not ten, so that four of them fit the tiny checkpoint's context.
"""

from __future__ import annotations

from pathlib import Path

from flamingo_eval.sample.benchmarks.draws import captions_of, conventions, rng_of, rows, scene_of
from flamingo_eval.sample.benchmarks.writers import coco_name, write_json, write_picture
from flamingo_eval.sample.world.scenes import seen
from flamingo_eval.sample.world.wording import COLOURS, NUMBERS, ask, name_of

ROUNDS = 3
CANDIDATES = 100
TYPES = ("what", "count", "colour", "where", "kind", "present")


def build_visdial(root: Path) -> None:
    """visdial_1.0_{train,val}.json, the dense annotations of val, and the pictures."""
    for part, split in (("train", "train"), ("eval", "val")):
        questions: dict[str, int] = {}
        answers = {text: i for i, text in enumerate(_pool())}
        dialogs, dense = [], []
        for n in rows(part):
            scene = scene_of("visdial", n)
            rng = rng_of("visdial", n)
            dialog = []
            for type in rng.sample(TYPES, ROUNDS):
                round_question = ask(type, scene, conventions("visdial"), rng, tuple(rng.sample(seen(), 4)))
                assert round_question is not None, "only types that every group of objects gives occasion for are asked"
                question = questions.setdefault(round_question.question.removesuffix("?"), len(questions))
                right = answers.setdefault(round_question.answer, len(answers))
                wrong_indices = [i for i in range(len(answers)) if i != right]
                options = [right, *rng.sample(wrong_indices, CANDIDATES - 1)]
                rng.shuffle(options)
                dialog.append(
                    {
                        "question": question,
                        "answer": right,
                        "answer_options": options,
                        "gt_index": options.index(right),
                    }
                )
            image = n + 1
            dialogs.append({"image_id": image, "caption": captions_of("visdial", n, scene, 1)[0], "dialog": dialog})
            last = dialog[-1]
            gt = last["gt_index"]
            relevance = [1.0 if i == gt else 0.2 if rng.random() < 0.03 else 0.0 for i in range(CANDIDATES)]
            dense.append({"image_id": image, "round_id": ROUNDS, "gt_relevance": relevance})
            if part == "train":
                write_picture(root / "train2014" / coco_name("train2014", image), scene)
            else:
                write_picture(root / "VisualDialog_val2018" / f"VisualDialog_val2018_{image:012d}.jpg", scene)
        data = {"questions": list(questions), "answers": list(answers), "dialogs": dialogs}
        write_json(root / f"visdial_1.0_{split}.json", {"version": "1.0", "split": split, "data": data})
        if part == "eval":
            write_json(root / "visdial_1.0_val_dense_annotations.json", dense)


def _pool() -> tuple[str, ...]:
    """Plausible answers to any question."""
    things = [name_of(o) for o in seen()[:120]]
    own = conventions("visdial")
    return tuple(dict.fromkeys([*own.yes_no, *NUMBERS[own.numbers], *COLOURS[own.colours], *things]))
