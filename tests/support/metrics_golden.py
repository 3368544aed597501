"""Readers of the golden splits in tests/data/metrics, independent of the package's loaders.

Every folder holds an invented split in the official layout, predictions, and expected.json as the official scorer gave
it. `case(task)` is all three as the metrics take them: aligned predictions and examples.
"""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from flamingo_eval.records import Example, Prediction

DATA = Path(__file__).parents[1] / "data" / "metrics"


@dataclass(frozen=True, slots=True)
class Case:
    predictions: tuple[Prediction, ...]
    examples: tuple[Example, ...]
    expected: dict[str, Any]

    @property
    def ids(self) -> list[str]:
        return [e.id for e in self.examples]


@cache
def case(task: str) -> Case:
    folder = DATA / task
    examples = tuple(READERS[task](folder / "data"))
    rows = {p["id"]: p for p in map(json.loads, _lines(folder / "predictions.jsonl"))}
    assert rows.keys() == {e.id for e in examples}
    predictions = tuple(
        Prediction(e.id, rows[e.id].get("prediction"), tuple(rows[e.id]["scores"]) if "scores" in rows[e.id] else None)
        for e in examples
    )
    return Case(predictions, examples, json.loads((folder / "expected.json").read_text(encoding="utf-8")))


def _lines(path: Path) -> list[str]:
    packed = path.with_name(path.name + ".gz")
    text = gzip.decompress(packed.read_bytes()).decode() if packed.exists() else path.read_text(encoding="utf-8")
    return [line for line in text.split("\n") if line]


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _example(id: Any, references: Sequence[str] = (), **labels: Any) -> Example:
    return Example(str(id), (), str(id), references=tuple(references), labels=labels)


def _vqa(data: Path) -> Iterator[Example]:
    for a in _json(next(data.glob("*annotations.json")))["annotations"]:
        votes = [x["answer"] for x in a["answers"]]
        yield _example(a["question_id"], votes, answer_type=a["answer_type"], question_type=a["question_type"])


def _textvqa(data: Path) -> Iterator[Example]:
    for a in _json(data / "TextVQA_0.5.1_val.json")["data"]:
        yield _example(a["question_id"], a["answers"])


def _vizwiz(data: Path) -> Iterator[Example]:
    for a in _json(data / "Annotations" / "val.json"):
        yield _example(a["image"], [x["answer"] for x in a["answers"]], answer_type=a["answer_type"])


def _karpathy(data: Path) -> Iterator[Example]:
    for image in _json(next(data.glob("dataset_*.json")))["images"]:
        if image["split"] == "test":
            yield _example(image.get("cocoid", image["filename"][:-4]), [s["raw"] for s in image["sentences"]])


def _vatex(data: Path) -> Iterator[Example]:
    for video in _json(data / "vatex_public_test_english_v1.1.json"):
        yield _example(video["videoID"], video["enCap"])


def _youcook2(data: Path) -> Iterator[Example]:
    for video, entry in _json(data / "youcookii_annotations_trainval.json")["database"].items():
        if entry["subset"] == "validation":
            for clip in entry["annotations"]:
                yield _example(f"{video}_{clip['id']}", [clip["sentence"]], video_id=video)


def _visdial(data: Path) -> Iterator[Example]:
    dialogs = {d["image_id"]: d["dialog"] for d in _json(data / "visdial_1.0_val.json")["data"]["dialogs"]}
    for dense in _json(data / "visdial_1.0_val_dense_annotations.json"):
        turn = dialogs[dense["image_id"]][dense["round_id"] - 1]
        yield _example(dense["image_id"], relevance=tuple(dense["gt_relevance"]), gt_index=turn["gt_index"])


def _with_target(id: Any, target: int, **labels: Any) -> Example:
    return Example(str(id), (), str(id), target=target, labels=labels)


def _hateful_memes(data: Path) -> Iterator[Example]:
    for meme in map(json.loads, _lines(data / "test_seen.jsonl")):
        yield _with_target(meme["id"], meme["label"])


def _imagenet(data: Path) -> Iterator[Example]:
    synsets = sorted(line.split()[0] for line in _lines(data / "LOC_synset_mapping.txt"))
    for row in _rows(data / "LOC_val_solution.csv"):
        yield _with_target(row["ImageId"], synsets.index(row["PredictionString"].split()[0]))


def _kinetics(data: Path) -> Iterator[Example]:
    labels = sorted({row["label"] for row in _rows(data / "annotations" / "train.csv")})
    for row in _rows(data / "annotations" / "val.csv"):
        id = f"{row['youtube_id']}_{int(row['time_start']):06d}_{int(row['time_end']):06d}"
        yield _with_target(id, labels.index(row["label"]))


def _video_qa(data: Path) -> Iterator[Example]:
    for q in _json(data / "test_qa.json"):
        yield Example(
            str(q["id"]), (), str(q["video_id"]), fields={"question": q["question"]}, references=(q["answer"],)
        )


def _ivqa(data: Path) -> Iterator[Example]:
    for row in _rows(data / "test.csv"):
        yield _example(row["video_id"], [row[f"answer{i}"] for i in range(1, 6)])


def _star(data: Path) -> Iterator[Example]:
    for q in _json(data / "STAR_val.json"):
        right = next(c["choice_id"] for c in q["choices"] if c["choice"] == q["answer"])
        yield _with_target(q["question_id"], right, question_type=q["question_id"].split("_")[0])


def _nextqa(data: Path) -> Iterator[Example]:
    extra = _json(data / "add_reference_answer_test.json")
    for row in _rows(data / "test.csv"):
        second = extra.get(row["video"], {}).get(row["qid"])
        more = {} if second is None else {"extra_references": (second,)}
        yield _example(f"{row['video']}_{row['qid']}", [row["answer"]], question_type=row["type"], **more)


def _rareact(data: Path) -> Iterator[Example]:
    for row in _rows(data / "rareact.csv"):
        numbers = {key: int(row[key]) for key in ("class_id", "annotation")}
        texts = {key: row[key] for key in ("verb", "noun", "video_id")}
        yield Example(row["id"], (), row["video_id"], labels={**numbers, **texts})


def _vl_icl(data: Path) -> Iterator[Example]:
    (folder,) = data.iterdir()
    for q in _json(folder / "query.json"):
        yield _example(q["id"], [str(q["answer"])])


READERS: dict[str, Callable[[Path], Iterator[Example]]] = {
    "vqav2": _vqa,
    "okvqa": _vqa,
    "textvqa": _textvqa,
    "vizwiz": _vizwiz,
    "vizwiz_contractions": _vizwiz,
    "coco": _karpathy,
    "flickr30k": _karpathy,
    "vatex": _vatex,
    "youcook2": _youcook2,
    "visdial": _visdial,
    "hateful_memes": _hateful_memes,
    "imagenet": _imagenet,
    "kinetics700": _kinetics,
    "msvdqa": _video_qa,
    "msrvttqa": _video_qa,
    "ivqa": _ivqa,
    "star": _star,
    "nextqa": _nextqa,
    "rareact": _rareact,
    "vl_icl_open_mi": _vl_icl,
    "vl_icl_clevr": _vl_icl,
    "vl_icl_operator_induction": _vl_icl,
    "vl_icl_operator_induction_interleaved": _vl_icl,
    "vl_icl_textocr": _vl_icl,
    "vl_icl_matching_mi": _vl_icl,
}
