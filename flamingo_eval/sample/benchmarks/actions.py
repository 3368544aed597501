"""RareAct and Kinetics-700-2020 in their official layouts."""

from __future__ import annotations

import csv
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

from flamingo_eval.sample.benchmarks.draws import EVAL_ROWS, rng_of
from flamingo_eval.sample.benchmarks.video import SEGMENTS, write_csv
from flamingo_eval.sample.world.clips import MOTIONS, SECONDS, moving_scene, write_clip
from flamingo_eval.sample.world.scenes import concepts, group_scene, seen
from flamingo_eval.sample.world.wording import name_of

OBJECTS, TRAIN_CLIPS, EVAL_CLIPS = 8, 8, 2  # Kinetics: objects, and clips of each object and motion


def build_rareact(root: Path) -> None:
    """rareact.csv over the real 149 classes, and rareact_videos; a clip shows the noun if the world has it."""
    object_of = {c.name: i for i, c in enumerate(concepts()) if not c.held_out}
    phrases = files("flamingo_eval.data.layouts").joinpath("rareact_phrases.csv")  # the table that the loader reads
    with Path(str(phrases)).open(encoding="utf-8", newline="") as file:
        table = [(row["verb"], row["noun"]) for row in csv.DictReader(file)]
    records = []
    for first in range(0, EVAL_ROWS, SEGMENTS):
        video, scenes = f"rare{first:05d}", []
        for row in range(first, min(first + SEGMENTS, EVAL_ROWS)):
            number = row * 7 % len(table) // 2 * 2  # two or three rows per class
            verb, noun = table[number]
            scene = moving_scene("rareact", row)
            scenes.append(replace(scene, objects=(object_of[noun],)) if noun in object_of else scene)
            start = (row - first) * SECONDS
            records.append(
                {
                    "id": row,
                    "video_id": video,
                    "start": start,
                    "end": start + SECONDS,
                    "class_id": number,
                    "verb": verb,
                    "noun": noun,
                    "annotation": rng_of("rareact", row).choice((1, 1, 1, 0, 2, 3, 4)),
                }
            )
        write_clip(root / "rareact_videos" / f"{video}.mp4", scenes)
    write_csv(root / "rareact.csv", list(records[0]), records)


def build_kinetics700(root: Path) -> None:
    """annotations/{train,val}.csv and one folder per class; a class is an object and a motion."""
    columns = ["label", "youtube_id", "time_start", "time_end", "split"]
    objects = rng_of("kinetics700").sample(seen(), OBJECTS)
    labels = [(o, motion) for o in objects for motion in MOTIONS if motion != "still"]
    number = 0
    for split, count in (("train", TRAIN_CLIPS), ("val", EVAL_CLIPS)):
        records = []
        for concept, motion in labels:
            label = f"{name_of(concept)} moving {motion}"
            for _ in range(count):
                scene = replace(group_scene(f"sample:kinetics700:{number}", concept, count=1), motion=motion)
                id = f"kin{number:08d}"
                write_clip(root / split / label / f"{id}_{0:06d}_{SECONDS:06d}.mp4", [scene])
                records.append({"label": label, "youtube_id": id, "time_start": 0, "time_end": SECONDS, "split": split})
                number += 1
        write_csv(root / "annotations" / f"{split}.csv", columns, records)
