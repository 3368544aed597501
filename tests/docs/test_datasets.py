"""docs/datasets.md says what the task files say: it is written from them (GOLDEN=write), and compared here."""

from __future__ import annotations

import os
from pathlib import Path

from flamingo_eval.config.names import find_task, task_names
from flamingo_eval.config.specs import TaskSpec
from flamingo_eval.data.task_file import load_task
from flamingo_eval.metrics import METRICS

PAGE = Path(__file__).parents[2] / "docs" / "datasets.md"
HEAD = """# The benchmarks' files

What `--data DIR` has to hold, task by task. `DIR` is the task's own folder, or one above it with a folder of the task's
name inside. Of several names on a line the first that is there is read: archives unpack to different folders, and
releases were renamed. Pictures are looked for in the folders named, in that order. Nothing has to be moved or renamed,
and nothing is fetched: get the files from the address, and ask whether they are whole with

```sh
flamingo-eval check vqav2 --data /data/vqav2
```

It counts rows beside the official numbers and names what is missing, broken or doubled. Pictures or clips that lie
elsewhere are named with `--images DIR`, as often as needed: `DIR` may hold the folders below, or the files flat. COCO's
pictures are found under their names of 2014 (`COCO_val2014_000000391895.jpg`) and of 2017 (`000000391895.jpg`).

A split without public answers can be run too: it writes `submission.json` for the evaluation server. Parquet mirrors
of some of these on the Hub can be read from a local copy, or by `--data hub`, the one way to make a run fetch anything.

This page is written from `tasks/*.yaml`; the metrics are explained in [scores.md](scores.md).

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
    shots = f"shots from `{data.support}`" if data.support else "no split to draw shots from"
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
