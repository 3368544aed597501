"""How many nodes best-first search reads: the trained tiny model on sample queries, over trees of a thousand names.

Counts do not depend on the machine. The sample's own lists are short: its 32 names of ImageNet are one token each, so a
search saves nothing, and the other trees are small enough to be read completely. So longer lists are used.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files

from flamingo_eval.api import load_flamingo_model
from flamingo_eval.config.specs import Normalisation, RankSpec
from flamingo_eval.data.layouts.imagenet import class_names
from flamingo_eval.engine import Engine
from flamingo_eval.prompting.prompts import candidate_text, render
from flamingo_eval.runs.plan import Choices, plan_runs
from flamingo_eval.runs.questions import load_questions
from flamingo_eval.sample.world.scenes import concepts

QUERIES, SHOTS = 32, 4
NORMALISATIONS: tuple[Normalisation, ...] = ("sum", "mean")
DIRECTIONS = ("left", "right", "up", "down")


def search() -> None:
    """Print the number of inner nodes and how many of them were read."""
    print(f"Best-first search, tiny, {QUERIES} queries of the sample, {SHOTS} shots: inner nodes read\n")
    print("| queries of | candidates | score | inner nodes | read per query | share | searches without result |")
    print("|---|---|---|--:|--:|--:|--:|")
    synsets = files("flamingo_eval.data.layouts").joinpath("imagenet_synsets.txt")
    imagenet = class_names([line.split(maxsplit=1)[1] for line in synsets.read_text("utf-8").splitlines()])
    moving = [f"{c.name} moving {way}" for c in concepts() for way in DIRECTIONS][:1000]
    for task, title, names in (
        ("imagenet", "the names of ImageNet-1k", imagenet),
        ("kinetics700", "250 objects moving in 4 directions", moving),
    ):
        for normalise in NORMALISATIONS:
            _row(task, title, names, RankSpec(normalise=normalise))
    print(flush=True)


def _row(task: str, title: str, names: Sequence[str], rank: RankSpec) -> None:
    questions, _ = load_questions([task], "flamingo")
    (run,) = plan_runs(questions, Choices(shots=(SHOTS,), limit=QUERIES))
    prompts = [render(e, run.prompt, run.protocol) for e in run.episodes()]
    texts = [candidate_text(name, run.prompt) for name in names]
    engine = Engine(load_flamingo_model("tiny"))
    for _ in engine.best(prompts, [texts] * len(prompts), rank):
        pass
    stats = engine.stats
    print(
        f"| {task} | {title} | {rank.normalise} | {stats['inner_nodes'] // len(prompts):,} "
        f"| {stats['inner_nodes_read'] / len(prompts):,.1f} "
        f"| {100 * stats['inner_nodes_read'] / stats['inner_nodes']:.2f} % "
        f"| {stats['searched_in_vain']} of {stats['searched']} |",
        flush=True,
    )
