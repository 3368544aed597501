"""The table of the sample's tasks: which function writes the files of each in its official layout."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path

from flamingo_eval.sample.fresh.dials import DIALS, Dials
from flamingo_eval.sample.world.scenes import drawn_from

# the function of a task with dials takes them after the folder (sample/fresh/dials.py)
BUILDERS: Mapping[str, str] = {
    "vqav2": "flamingo_eval.sample.benchmarks.writers:build_vqav2",
    "coco": "flamingo_eval.sample.benchmarks.writers:build_coco",
    "fastbind": "flamingo_eval.sample.benchmarks.fastbind:build_fastbind",
    "okvqa": "flamingo_eval.sample.benchmarks.image_qa:build_okvqa",
    "vizwiz": "flamingo_eval.sample.benchmarks.image_qa:build_vizwiz",
    "textvqa": "flamingo_eval.sample.benchmarks.image_qa:build_textvqa",
    "gqa": "flamingo_eval.sample.benchmarks.image_qa:build_gqa",
    "textcaps": "flamingo_eval.sample.benchmarks.captioning:build_textcaps",
    "flickr30k": "flamingo_eval.sample.benchmarks.captioning:build_flickr30k",
    "nocaps": "flamingo_eval.sample.benchmarks.captioning:build_nocaps",
    "imagenet": "flamingo_eval.sample.benchmarks.classification:build_imagenet",
    "hateful_memes": "flamingo_eval.sample.benchmarks.hateful_memes:build_hateful_memes",
    "visdial": "flamingo_eval.sample.benchmarks.visdial:build_visdial",
    "msvdqa": "flamingo_eval.sample.benchmarks.video:build_msvdqa",
    "msrvttqa": "flamingo_eval.sample.benchmarks.video:build_msrvttqa",
    "ivqa": "flamingo_eval.sample.benchmarks.video:build_ivqa",
    "nextqa": "flamingo_eval.sample.benchmarks.video:build_nextqa",
    "star": "flamingo_eval.sample.benchmarks.video:build_star",
    "vatex": "flamingo_eval.sample.benchmarks.video:build_vatex",
    "youcook2": "flamingo_eval.sample.benchmarks.video:build_youcook2",
    "rareact": "flamingo_eval.sample.benchmarks.actions:build_rareact",
    "kinetics700": "flamingo_eval.sample.benchmarks.actions:build_kinetics700",
    "vl_icl_open_mi": "flamingo_eval.sample.fresh.objects:build_open_mi",
    "vl_icl_matching_mi": "flamingo_eval.sample.fresh.objects:build_matching_mi",
    "vl_icl_clevr": "flamingo_eval.sample.fresh.clevr:build_clevr",
    "vl_icl_operator_induction": "flamingo_eval.sample.fresh.operators:build_operator_induction",
    "vl_icl_operator_induction_interleaved": "flamingo_eval.sample.fresh.operators:build_interleaved",
    "vl_icl_textocr": "flamingo_eval.sample.fresh.textocr:build_textocr",
    "smmile": "flamingo_eval.sample.benchmarks.smmile:build_smmile",
    "smmile_plusplus": "flamingo_eval.sample.benchmarks.smmile:build_permutations",
    "smmile_mcqa": "flamingo_eval.sample.benchmarks.smmile:build_smmile",
    "smmile_plusplus_mcqa": "flamingo_eval.sample.benchmarks.smmile:build_permutations",
    "isekai_10": "flamingo_eval.sample.benchmarks.isekai:build_isekai_10",
    "isekai_pair": "flamingo_eval.sample.benchmarks.isekai:build_isekai_pair",
    "truemicl_operator_induction": "flamingo_eval.sample.benchmarks.true_micl:build_operator_induction",
    "truemicl_clevr": "flamingo_eval.sample.benchmarks.true_micl:build_clevr",
    "truemicl_sudoku": "flamingo_eval.sample.benchmarks.true_micl:build_sudoku",
    "truemicl_shapes_count": "flamingo_eval.sample.benchmarks.true_micl:build_shapes_count",
    "truemicl_clock": "flamingo_eval.sample.benchmarks.true_micl:build_clock",
    "truemicl_palindrome": "flamingo_eval.sample.benchmarks.true_micl:build_palindrome",
    "truemicl_character": "flamingo_eval.sample.benchmarks.true_micl:build_character",
}


def build(task: str, root: Path, seed: int | None = None, dials: Dials | None = None) -> None:
    """Write one task's files into a folder: the sample's, or those of a fresh copy by its seed and dials."""
    module, _, function = BUILDERS[task].partition(":")
    builder: Callable[..., None] = getattr(import_module(module), function)
    task_dials = dials or DIALS.get(task)
    with drawn_from(seed):
        builder(root, task_dials) if task_dials else builder(root)
