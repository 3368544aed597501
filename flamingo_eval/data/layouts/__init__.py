"""Official files on disk -> Examples. One module per family of layouts; LAYOUTS is the table.

The entry point is `load_split`. A task's files are below the data root, or below `<root>/<task>` if it exists.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from flamingo_eval.config.specs import TaskSpec
from flamingo_eval.data.roots import HUB_ROOT, DataRoot, as_data_root
from flamingo_eval.data.source import Layout, NoExamplesError, Source, check_roles
from flamingo_eval.errors import ConfigError, DataError, UsageError, did_you_mean
from flamingo_eval.records import Split

LAYOUTS = {
    "vqa": Layout(
        "flamingo_eval.data.layouts.vqa:load",
        files=("questions", "annotations"),
        optional=("captions",),  # data/words.py
        media=("images",),
        words=("image_name", "subset"),
        options=("demonstration", "demonstration_field", "question_mark"),
    ),
    "karpathy": Layout(
        "flamingo_eval.data.layouts.karpathy:load",
        files=("annotations",),
        media=("images",),
        words=("subset",),
        options=("demonstration",),
    ),
    "fastbind": Layout(
        "flamingo_eval.data.layouts.fastbind:load", files=("pools",), media=("images",), words=("subset",)
    ),
    "vizwiz": Layout(
        "flamingo_eval.data.layouts.vizwiz:load",
        media=("images",),
        options=("demonstration", "question_mark"),
        files=("annotations",),
    ),
    "textvqa": Layout(
        "flamingo_eval.data.layouts.textvqa:load",
        media=("images",),
        words=("subset",),
        options=("demonstration", "question_mark"),
        files=("annotations",),
    ),
    "textcaps": Layout(
        "flamingo_eval.data.layouts.textvqa:load_captions",
        media=("images",),
        words=("subset",),
        options=("demonstration",),
        files=("annotations",),
    ),
    "visdial": Layout(
        "flamingo_eval.data.layouts.visdial:load",
        files=("dialogs", "dense"),
        media=("images",),
        words=("image_name", "subset"),
    ),
    "hateful_memes": Layout(
        "flamingo_eval.data.layouts.hateful_memes:load",
        media=("images",),
        files=("annotations",),
    ),
    "imagenet": Layout(
        "flamingo_eval.data.layouts.imagenet:load",
        files=(),
        optional=("synsets", "solution", "ground_truth", "meta"),  # meta: in older records, not read any more
        media=("images",),
        any_of=("images", "solution", "ground_truth"),
    ),
    "video_qa": Layout(
        "flamingo_eval.data.layouts.video_qa:load",
        optional=("mapping",),
        media=("videos",),
        words=("video_ids",),
        options=("dataset", "question_mark"),
        files=("annotations",),
    ),
    "vatex": Layout(
        "flamingo_eval.data.layouts.vatex:load",
        media=("videos",),
        options=("demonstration",),
        files=("annotations",),
    ),
    "ivqa": Layout(
        "flamingo_eval.data.layouts.ivqa:load",
        media=("videos",),
        options=("demonstration", "question_mark"),
        files=("annotations",),
    ),
    "youcook2": Layout(
        "flamingo_eval.data.layouts.youcook2:load",
        media=("videos",),
        words=("subset",),
        files=("annotations",),
    ),
    "star": Layout(
        "flamingo_eval.data.layouts.star:load",
        media=("videos",),
        options=("question_mark",),
        files=("annotations",),
    ),
    "nextqa": Layout(
        "flamingo_eval.data.layouts.nextqa:load",
        optional=("extra_references", "mapping"),
        media=("videos",),
        options=("question_mark",),
        files=("annotations",),
    ),
    "rareact": Layout(
        "flamingo_eval.data.layouts.rareact:load",
        media=("videos",),
        files=("annotations",),
    ),
    "kinetics": Layout(
        "flamingo_eval.data.layouts.kinetics:load",
        optional=("labels",),
        media=("videos",),
        words=("subset",),
        files=("annotations",),
    ),
    "coco_style": Layout(
        "flamingo_eval.data.layouts.coco_style:load",
        media=("images",),
        options=("demonstration",),
        files=("annotations",),
    ),
    "gqa": Layout(
        "flamingo_eval.data.layouts.gqa:load",
        media=("images",),
        options=("question_mark",),
        files=("annotations",),
    ),
    "vl_icl": Layout(
        "flamingo_eval.data.layouts.vl_icl:load",
        files=("annotations",),
        optional=("twin",),  # data/words.py
        media=("images",),
        words=("subset",),
        options=("shots",),
    ),
    "true_micl": Layout(
        "flamingo_eval.data.layouts.true_micl:load",
        files=("annotations",),
        media=("images",),
        words=("subset",),
    ),
    "smmile": Layout(
        "flamingo_eval.data.layouts.smmile:load",
        files=("annotations",),
        media=("images",),
        words=("subset",),
    ),
    "isekai": Layout(
        "flamingo_eval.data.layouts.isekai:load",
        files=("annotations",),
        media=("images",),
        words=("subset",),
    ),
    "rows": Layout(
        "flamingo_eval.data.layouts.rows:load",
        files=("rows",),
        media=("images", "videos"),
        words=("classes",),
        options=(
            "id",
            "image",
            "video",
            "start",
            "end",
            "question",
            "answers",
            "candidates",
            "label",
            "picture",
            "fields",
            "labels",
            "demonstration",
            "question_mark",
        ),
    ),
}


def layout_of(task: TaskSpec) -> Layout:
    """The layout of a task. Raises ConfigError for an unknown layout, and for unknown roles and options."""
    name = task.data.layout
    if name not in LAYOUTS:
        hint = did_you_mean(name, LAYOUTS)
        known_layouts = f"Known: {', '.join(sorted(LAYOUTS))}."
        raise ConfigError(
            f"task '{task.name}', data.layout: unknown layout '{name}'. {hint}".rstrip(), fix=known_layouts
        )
    check_roles(task, LAYOUTS[name])
    return LAYOUTS[name]


def source_of(task: TaskSpec, root: Path | DataRoot, split: str, *, media: bool = True) -> Source:
    """The files of a split. Raises UsageError for a split that the task does not define."""
    data_root = as_data_root(root)
    folder = data_root.folder
    if folder == HUB_ROOT:
        from flamingo_eval.data.hub import from_hub

        task, folder = from_hub(task, split)
    layout = layout_of(task)
    if split not in task.data.splits:
        hint = did_you_mean(split, task.data.splits)
        split_names = f"Splits of {task.name}: {', '.join(task.data.splits)}."
        raise UsageError(f"{task.name} has no split '{split}'. {hint}".rstrip(), fix=split_names)
    task_folder = folder / task.name
    return Source(task, task_folder if task_folder.is_dir() else folder, split, layout, media, data_root.images)


def load_split(task: TaskSpec, root: Path | DataRoot, split: str, *, media: bool = True) -> Split:
    """The examples of one split, in file order. Media are not opened; `media=False` leaves them out.

    Raises DataError with all problems of the split's files: missing, truncated, wrong split, duplicate or unknown ids.
    """
    source = source_of(task, root, split, media=media)
    source.check()
    module, _, function = source.layout.load.partition(":")
    load: Callable[[Source], Split] = getattr(import_module(module), function)
    split_data = load(source)
    if split == task.data.support and not split_data.labelled:
        raise DataError(
            f"{source.title}: no answers in {', '.join(map(str, split_data.files))}. Demonstrations are drawn "
            "from this split and show its answers.",
            fix=f"Give the files with the answers. Data: {task.data.source}".rstrip(),
        )
    return split_data


def splits_on_disk(task: TaskSpec, root: Path | DataRoot) -> tuple[str, ...]:
    """The splits with all annotation files on disk: the query split first, the support split last."""
    rank = {task.data.query: -1, task.data.support: 1}
    defined = task.data.hub.splits if as_data_root(root).folder == HUB_ROOT and task.data.hub else task.data.splits
    names = sorted(defined, key=lambda name: rank.get(name, 0))
    return tuple(name for name in names if not source_of(task, root, name).missing())


def load_labelled(task: TaskSpec, root: Path | DataRoot) -> Split:
    """The default split of `score`: the first on disk with answers. Without media."""
    unlabelled: list[str] = []
    empty: NoExamplesError | None = None
    for name in splits_on_disk(task, root):
        try:
            split = load_split(task, root, name, media=False)
        except NoExamplesError as error:
            empty = empty or error
            continue
        if split.labelled:
            return split
        unlabelled.append(name)
    if unlabelled:
        raise DataError(
            f"{task.name}: the answers of {', '.join(unlabelled)} are on an evaluation server; no labelled split "
            f"is in {root}.",
            fix="Write a submission file instead, or add the files of a labelled split.",
        )
    source_of(task, root, task.data.query).check()
    raise empty or DataError(f"{task.name}: found no split in {root}.")
