"""MSVD-QA, MSRVTT-QA, iVQA, NExT-QA, STAR, VATEX and YouCook2 in their official layouts.

Several questions share a clip if they do in the benchmark. If every row has its own clip there, rows are segments of,
or links to, a few dozen files.
"""

from __future__ import annotations

import csv
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from flamingo_eval.sample.benchmarks.draws import ask_about, captions_of, rng_of, rows
from flamingo_eval.sample.benchmarks.writers import write_json
from flamingo_eval.sample.world.clips import MOTIONS, SECONDS, moving_scene, write_clip
from flamingo_eval.sample.world.scenes import Scene, seen
from flamingo_eval.sample.world.wording import Asked, name_of

PER_CLIP = 8  # questions about one clip
SEGMENTS = 4  # of one long video
TYPES = ("what", "count", "colour", "where", "kind")
NEXTQA_TYPES = ("CW", "CH", "TN", "TC", "TP", "DL", "DC", "DB", "DO")
STAR_TYPES = ("Interaction", "Sequence", "Prediction", "Feasibility")


def write_csv(path: Path, columns: Sequence[str], records: Iterable[Mapping[str, object]]) -> None:
    """Write CSV with a header; creates the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(records)


def asked_of(benchmark: str, scene: Scene, key: int) -> Asked:
    """A question about a clip; one in three asks where its objects go."""
    if key % 3 == 0:
        return Asked("motion", "where does it go?", scene.motion)
    return ask_about(benchmark, scene, TYPES, key)


def clips_of(benchmark: str, part: str) -> list[tuple[int, Scene, range]]:
    """(clip, its scene, the rows about it), PER_CLIP rows per clip."""
    numbers = rows(part)
    starts = range(numbers.start, numbers.stop, PER_CLIP)
    return [(n, moving_scene(benchmark, n), range(n, min(n + PER_CLIP, numbers.stop))) for n in starts]


def build_msvdqa(root: Path) -> None:
    """{train,test}_qa.json, youtube_mapping.txt and video/<youtube id>_<start>_<end>.mp4."""
    mapping = []
    for part, split in (("train", "train"), ("eval", "test")):
        records = []
        for clip, scene, asked_rows in clips_of("msvdqa", part):
            name = f"sample-{clip:05d}_0_{SECONDS}"
            mapping.append(f"{name} vid{clip + 1}\n")
            write_clip(root / "video" / f"{name}.mp4", [scene])
            for row in asked_rows:
                question = asked_of("msvdqa", scene, row)
                records.append(
                    {"answer": question.answer, "id": row, "question": question.question, "video_id": clip + 1},
                )
        write_json(root / f"{split}_qa.json", records)
    (root / "youtube_mapping.txt").write_text("".join(mapping), encoding="utf-8")


def build_msrvttqa(root: Path) -> None:
    """{train,test}_qa.json; clips numbered in the ranges of the official splits."""
    for part, split, first, folder in (
        ("train", "train", 0, "TrainValVideo"),
        ("eval", "test", 7010, "TestVideo"),
    ):
        records = []
        for i, (_, scene, asked_rows) in enumerate(clips_of("msrvttqa", part)):
            video = first + i
            write_clip(root / folder / f"video{video}.mp4", [scene])
            for row in asked_rows:
                question = asked_of("msrvttqa", scene, row)
                records.append(
                    {
                        "answer": question.answer,
                        "category_id": row % 20,
                        "id": row,
                        "question": question.question,
                        "video_id": video,
                    }
                )
        write_json(root / f"{split}_qa.json", records)


def build_ivqa(root: Path) -> None:
    """{train,test}.csv with five answers per question; every row has a file of its own name."""
    columns = ["video_id", "start", "end", "question", *(f"answer{i}" for i in range(1, 6)), "confidence"]
    for part, split in (("train", "train"), ("eval", "test")):
        records = []
        for clip, scene, asked_rows in clips_of("ivqa", part):
            first = root / "video" / f"ivqa{clip:05d}.mp4"
            write_clip(first, [scene])
            for row in asked_rows:
                question = asked_of("ivqa", scene, row)
                if row != clip:
                    shutil.copyfile(first, root / "video" / f"ivqa{row:05d}.mp4")
                other = name_of(rng_of("ivqa", row).choice(seen()))
                answers = [question.answer] * 4 + [question.answer if row % 2 else other]
                record: dict[str, object] = {"video_id": f"ivqa{row:05d}", "start": 0, "end": SECONDS}
                record |= {"question": question.question, "confidence": 1}
                records.append(record | {f"answer{i}": a for i, a in enumerate(answers, start=1)})
        write_csv(root / f"{split}.csv", columns, records)


def build_nextqa(root: Path) -> None:
    """{train,test}.csv, add_reference_answer_test.json for half of the videos, map_vid_vidorID.json, NExTVideo."""
    columns = ["video", "frame_count", "width", "height", "question", "answer", "qid", "type", "additional_ref_answer"]
    vidor: dict[str, str] = {}
    extra: dict[str, dict[str, str]] = {}
    for part, split in (("train", "train"), ("eval", "test")):
        records = []
        for i, (clip, scene, asked_rows) in enumerate(clips_of("nextqa", part)):
            video = str(2_000_000_000 + clip)
            vidor[video] = f"{1000 + clip}/{video}"
            write_clip(root / "NExTVideo" / f"{vidor[video]}.mp4", [scene])
            second = part == "eval" and i % 2 == 0
            for qid, row in enumerate(asked_rows):
                question = asked_of("nextqa", scene, row)
                if second:
                    extra.setdefault(video, {})[str(qid)] = f"the {question.answer}"
                records.append(
                    {
                        "video": video,
                        "frame_count": 16,
                        "width": 64,
                        "height": 64,
                        "question": question.question.removesuffix("?"),
                        "answer": question.answer,
                        "qid": qid,
                        "type": NEXTQA_TYPES[row % len(NEXTQA_TYPES)],
                        "additional_ref_answer": int(second),
                    }
                )
        write_csv(root / f"{split}.csv", columns, records)
    write_json(root / "map_vid_vidorID.json", vidor)
    write_json(root / "add_reference_answer_test.json", extra)


def build_star(root: Path) -> None:
    """STAR_{train,val}.json: four types, four choices in any order of the list, and Charades_v1_480."""
    for part, split in (("train", "train"), ("eval", "val")):
        records = []
        for clip, scene, asked_rows in clips_of("star", part):
            video = f"S{clip:04d}"
            write_clip(root / "Charades_v1_480" / f"{video}.mp4", [scene])
            for row in asked_rows:
                rng = rng_of("star", row)
                type = STAR_TYPES[row % len(STAR_TYPES)]
                if type in ("Interaction", "Feasibility"):
                    question, answer = "what is it?", name_of(scene.objects[0])
                    others = [name_of(o) for o in rng.sample([o for o in seen() if o not in scene.objects], 3)]
                else:
                    question, answer = "where does it go?", str(scene.motion)
                    others = rng.sample([m for m in MOTIONS if m != scene.motion], 3)
                texts = [answer, *others]
                rng.shuffle(texts)
                choices = [{"choice_id": i, "choice": text} for i, text in enumerate(texts)]
                rng.shuffle(choices)
                records.append(
                    {
                        "question_id": f"{type}_T1_{row}",
                        "video_id": video,
                        "start": 0.0,
                        "end": float(SECONDS),
                        "question": question,
                        "answer": answer,
                        "choices": choices,
                    }
                )
        write_json(root / f"STAR_{split}.json", records)


def build_vatex(root: Path) -> None:
    """vatex_training_v1.0.json and the public test; rows are segments of longer videos."""
    for part, name in (("train", "vatex_training_v1.0"), ("eval", "vatex_public_test_english_v1.1")):
        records = []
        for first, scenes in _long_videos("vatex", part):
            video = f"vatex_{first:05d}"
            write_clip(root / "videos" / f"{video}.mp4", scenes)
            for i, scene in enumerate(scenes):
                id = f"{video}_{i * SECONDS:06d}_{(i + 1) * SECONDS:06d}"
                records.append({"videoID": id, "enCap": _moving_captions("vatex", first + i, scene, 10)})
        write_json(root / f"{name}.json", records)


def build_youcook2(root: Path) -> None:
    """youcookii_annotations_trainval.json and raw_videos by split and recipe; four segments per video."""
    database: dict[str, object] = {}
    for part, subset in (("train", "training"), ("eval", "validation")):
        for first, scenes in _long_videos("youcook2", part):
            video, recipe = f"cook{first:07d}", str(101 + first % 5)
            write_clip(root / "raw_videos" / subset / recipe / f"{video}.mp4", scenes)
            segments = [
                {
                    "segment": [i * SECONDS, (i + 1) * SECONDS],
                    "id": i,
                    "sentence": _moving_captions("youcook2", first + i, scene, 1)[0],
                }
                for i, scene in enumerate(scenes)
            ]
            database[video] = {
                "duration": float(SECONDS * len(scenes)),
                "subset": subset,
                "recipe_type": recipe,
                "annotations": segments,
                "video_url": "",
            }
    write_json(root / "youcookii_annotations_trainval.json", {"database": database})


def _long_videos(benchmark: str, part: str) -> list[tuple[int, list[Scene]]]:
    """(first row, scenes): SEGMENTS rows per video."""
    numbers = rows(part)
    starts = range(numbers.start, numbers.stop, SEGMENTS)
    return [(n, [moving_scene(benchmark, row) for row in range(n, min(n + SEGMENTS, numbers.stop))]) for n in starts]


def _moving_captions(benchmark: str, number: int, scene: Scene, count: int) -> list[str]:
    move = "still" if scene.motion == "still" else f"moving {scene.motion}"
    return [f"{text} {move}" for text in captions_of(benchmark, number, scene, count)]
