"""Groups of tasks with one name, as in `run vl_icl`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from flamingo_eval.config.names import task_names

_VL_ICL = (
    "vl_icl_open_mi", "vl_icl_clevr", "vl_icl_operator_induction", "vl_icl_operator_induction_interleaved",
    "vl_icl_textocr", "vl_icl_matching_mi",
)  # fmt: skip
_SMMILE = ("smmile", "smmile_plusplus", "smmile_mcqa", "smmile_plusplus_mcqa")
_ISEKAI = ("isekai_10", "isekai_pair")
_TRUEMICL = (
    "truemicl_operator_induction", "truemicl_clevr", "truemicl_sudoku", "truemicl_shapes_count", "truemicl_clock",
    "truemicl_palindrome", "truemicl_character",
)  # fmt: skip
ALL = "all"  # every task known by name
GROUPS: Mapping[str, tuple[str, ...]] = {
    "paper": (  # Flamingo's sixteen few-shot benchmarks and its two of classification
        "okvqa", "vqav2", "coco", "msvdqa", "vatex", "vizwiz", "flickr30k", "msrvttqa", "ivqa", "youcook2", "star",
        "visdial", "textvqa", "nextqa", "hateful_memes", "rareact", "imagenet", "kinetics700",
    ),
    "vl_icl": _VL_ICL,
    "smmile_all": _SMMILE,
    "isekai": _ISEKAI,
    "truemicl": _TRUEMICL,
    "icl": ("fastbind", *_VL_ICL, *_SMMILE, *_ISEKAI, *_TRUEMICL),  # tasks that only the demonstrations explain
}  # fmt: skip


def group_names() -> tuple[str, ...]:
    """Names of groups, which commands accept instead of tasks."""
    return (*GROUPS, ALL)


def members(name: str) -> tuple[str, ...]:
    """The tasks of a group, in order; empty for any other name."""
    return tuple(task_names()) if name == ALL else GROUPS.get(name, ())


def groups_of(task: str) -> tuple[str, ...]:
    """The groups that a task belongs to, without `all`."""
    return tuple(name for name, tasks in GROUPS.items() if task in tasks)


def expanded(names: Sequence[str]) -> tuple[str, ...]:
    """Tasks and groups -> tasks, each once, in the given order."""
    return tuple(dict.fromkeys(task for name in names for task in (members(name) or (name,))))
