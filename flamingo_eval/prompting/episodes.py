"""Examples + DemoSpec -> Episodes: one for each query, with its shots."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from flamingo_eval.config.specs import DemoSpec
from flamingo_eval.errors import UsageError
from flamingo_eval.prompting.demos import (
    Ranking,
    Support,
    balanced_demos,
    endless_draw,
    fixed_demos,
    given_demos,
    random_demos,
    ranked_demos,
)
from flamingo_eval.records import Episode, Example


def choose_queries(examples: Sequence[Example], limit: int | None, task: str) -> tuple[Example, ...]:
    """The queries to run, in file order: all, or the first `limit` of a random order keyed by the task.

    Every limit is contained in the larger ones and all seeds share the queries, so that runs can be paired.
    """
    if limit is None or limit >= len(examples):
        return tuple(examples)
    ordered = sorted(examples, key=lambda e: e.id)
    draw = endless_draw(len(ordered), f"{task}:queries")
    kept = {ordered[i].id for i, _ in zip(draw, range(limit), strict=False)}
    return tuple(e for e in examples if e.id in kept)


def build_episodes(
    queries: Sequence[Example],
    support: Support | None,
    spec: DemoSpec,
    text_only_shots: int,
    ranking: Ranking | None = None,
) -> Iterator[Episode]:
    """The episode of each query, in order. Raises PromptError when the support set is too small for the shots.

    Zero shots means `text_only_shots` demonstrations without their pictures (Flamingo v2 A.2: two for open-ended
    tasks), drawn like any others.
    """
    text_only = spec.shots == 0
    drawn = replace(spec, shots=text_only_shots) if text_only else spec
    for query in queries:
        yield Episode(query, choose_shots(query, support, drawn, ranking), text_only)


def choose_shots(
    query: Example, support: Support | None, spec: DemoSpec, ranking: Ranking | None
) -> tuple[Example, ...]:
    """The shots of one query by the spec's method."""
    if spec.shots == 0:
        return ()
    if support is None:
        raise UsageError("this task has no split to draw shots from: run it with --shots 0.")
    if spec.method == "balanced":
        return balanced_demos(query, support, spec)
    if spec.method == "fixed":
        return fixed_demos(query, support, spec)
    if spec.method in ("file", "official"):
        return given_demos(query, support, spec)
    if spec.method == "random":
        return random_demos(query, support, spec)
    if ranking is None:
        raise AssertionError(f"{spec.method} needs a ranking")
    return ranked_demos(query, support, spec, ranking)
