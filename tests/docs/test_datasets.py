"""docs/datasets.md is generated from the task files (GOLDEN=write); this test compares the two."""

from __future__ import annotations

import os
from pathlib import Path

from flamingo_eval.config.names import find_task, task_names
from flamingo_eval.config.specs import TaskSpec
from flamingo_eval.data.task_file import load_task
from flamingo_eval.metrics import METRICS

PAGE = Path(__file__).parents[2] / "docs" / "datasets.md"
HEAD = """# The benchmarks' files

What `--data DIR` must contain, task by task. `DIR` is the task's own folder, or a folder that contains one with the
task's name. If a line has several names, the first one that exists is read: archives unpack to different folders, and
releases were renamed. Pictures are searched in the listed folders, in that order. You do not need to move or rename
files. Nothing is downloaded: get the files from the address, then check that they are complete with

```sh
flamingo-eval check vqav2 --data /data/vqav2
```

It compares the numbers of rows with the official ones and lists what is missing, broken or duplicate. If pictures or
clips are in another place, name it with `--images DIR` (repeatable): `DIR` may contain the folders below, or the
files directly. COCO's pictures are found under their names of 2014 (`COCO_val2014_000000391895.jpg`) and of 2017
(`000000391895.jpg`).

A split without public answers can be run too: it writes `submission.json` for the evaluation server. Parquet mirrors of
some benchmarks on the Hub can be read from a local copy, or with `--data hub`, the only option that downloads data.

This page is generated from `tasks/*.yaml`; [scores.md](scores.md) explains the metrics.

| task | benchmark | kind | queries | official rows | metric |
|---|---|---|---|--:|---|
"""


def row(task: TaskSpec) -> str:
    size = task.data.counts.get(task.data.query)
    metric = task.metrics[0]
    name = f"{metric.name}:{metric.dialect}" if metric.dialect else metric.name
    rows = f"{size:,}" if size else "-"
    kind = f"{task.modality}, {task.mode}"
    return f"| [{task.name}](#{task.name}) | {task.title} | {kind} | {task.data.query} | {rows} | {name} |"


def section(task: TaskSpec) -> str:
    data = task.data
    shots = f"shots from `{data.support}`" if data.support else "no split for shots"
    counts = ", ".join(f"{split} {n:,}" for split, n in data.counts.items())
    lines = [
        f"## {task.name}",
        "",
        f"**{task.title}.** Queries from `{data.query}`, {shots}. {' '.join(data.source.split())}",
        "",
        " ".join(task.notes.split()),
        "",
        *([f"Official rows: {counts}.", ""] if counts else []),
        "| split | what | file or folder |",
        "|---|---|---|",
    ]
    for split, roles in data.splits.items():
        lines += [f"| {split} | {role} | {' or '.join(f'`{n}`' for n in names)} |" for role, names in roles.items()]
    return "\n".join(lines) + "\n"


def page() -> str:
    tasks = [load_task(find_task(name)) for name in task_names()]
    return HEAD + "\n".join(map(row, tasks)) + "\n\n" + "\n".join(map(section, tasks))


def test_the_page_is_what_the_task_files_say() -> None:
    if os.environ.get("GOLDEN") == "write":
        PAGE.write_text(page(), encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == page()


def test_every_metric_is_explained() -> None:
    text = PAGE.with_name("scores.md").read_text(encoding="utf-8")
    missing = [name for name in METRICS if f"`{name}" not in text]
    assert not missing
