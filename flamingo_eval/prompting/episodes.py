"""Examples -> Episodes: one for each query of a run, with its shots, after its ablation; made when needed."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from flamingo_eval.config.specs import Asked, DemoSpec
from flamingo_eval.errors import PromptError, UsageError
from flamingo_eval.prompting.ablations import QUERY_IMAGES_SHUFFLED, ablate, shuffle_query_images
from flamingo_eval.prompting.demos import (
    Ranking,
    TooFewShotsError,
    balanced_demos,
    fixed_demos,
    given_demos,
    random_demos,
    ranked_demos,
    require_enough,
)
from flamingo_eval.prompting.support import Given, Support, draw_support, endless_draw
from flamingo_eval.records import Episode, Example, Split

DRAWN = ("random", "balanced", "fixed")  # methods that a key and the support set decide
NO_SUPPORT = "this task has no split to draw shots from: run it with --shots 0."


def ranked_by_model(run: Asked) -> bool:
    """Whether the model chooses the demonstrations (RICES), so that episodes need the loaded model."""
    return run.demos.method.startswith("rices") and bool(run.demos.shots or run.text_only_shots)


def chosen_queries(split: Split, task: str, limit: int | None, ablation: str) -> tuple[Example, ...]:
    """The queries of a run in file order, after `limit` and an ablation that exchanges their pictures."""
    examples = shuffle_query_images(split.examples, task) if ablation == QUERY_IMAGES_SHUFFLED else split.examples
    return choose_queries(examples, limit, task)


def require_shots(run: Asked, queries: Sequence[Example], support: Support | None) -> None:
    """Raise UsageError or PromptError if a query cannot get the shots of the run."""
    shots = run.demos.shots or run.text_only_shots
    if shots and support is None:
        raise UsageError(NO_SUPPORT)
    if shots and support is not None:
        try:
            require_enough(queries, support, replace(run.demos, shots=shots))
        except TooFewShotsError as error:
            raise error if run.demos.shots else _too_few_without_pictures(error) from error


def _too_few_without_pictures(error: TooFewShotsError) -> PromptError:
    """The error at zero shots, where the prompt shows demonstrations without pictures."""
    return PromptError(
        f"{error.task}: at 0 shots the prompt shows {error.wanted} demonstrations without pictures, and only {error.n} "
        f"are left {error.why}",
        fix="Give more support rows, or use a prompt with `text_only_shots: 0`.",
    )


class Usable(Protocol):
    """For --on-error skip: whether an example can be shown, and why its media cannot be read."""

    def __call__(self, example: Example) -> bool: ...

    def unreadable(self, example: Example) -> str: ...


class Supports:
    """The support sets of a task, each drawn once: they depend on the seed, not on the number of shots.

    The rows are put in order once for all of them.
    """

    def __init__(
        self,
        task: str,
        split: Split | None,
        given: Given | None = None,
        usable: Usable | None = None,
    ) -> None:
        """`given`: fixed demonstrations of each query, if any. `usable`: which examples can be shown."""
        self.task, self.split, self.given, self.usable = task, split, given, usable
        self._ordered: list[Example] = []
        self._drawn: dict[DemoSpec, Support] = {}

    def of(self, demos: DemoSpec) -> Support | None:
        """The support set of shots; None if the task has no support split."""
        if self.split is None:
            return None
        key = replace(demos, shots=0, method="random")
        if key not in self._drawn:
            self._ordered = self._ordered or sorted(self.split.examples, key=lambda e: e.id)
            support = draw_support(self.task, self.split.name, self._ordered, demos)
            self._drawn[key] = replace(support, given=self.given, usable=self.usable, candidates=self.split.candidates)
        return self._drawn[key]


def episodes_of(
    run: Asked, queries: Sequence[Example], support: Support | None, ranking: Ranking | None = None
) -> Iterator[Episode]:
    """The episode of each query, in order, after the ablation. Raises PromptError if there are too few shots."""
    episodes = build_episodes(queries, support, run.demos, run.text_only_shots, ranking)
    return ablated(episodes, run, support)


class Episodes(Mapping[str, Episode]):
    """The episodes of a run by query id, in the order of its queries: each is made when it is asked for, and not kept.

    Nothing is drawn but what the query's own key draws, so an episode is the same whenever it is made.
    """

    def __init__(self, asked: Asked, queries: Iterable[Example], support: Support | None) -> None:
        self.asked, self.support = asked, support
        self.queries = {query.id: query for query in queries}

    def __getitem__(self, id: str) -> Episode:
        (episode,) = episodes_of(self.asked, (self.queries[id],), self.support)
        return episode

    def __iter__(self) -> Iterator[str]:
        return iter(self.queries)

    def __len__(self) -> int:
        return len(self.queries)


def episodes_by_id(
    asked: Asked, queries: Sequence[Example], support: Support | None, ranking: Ranking | None = None
) -> Mapping[str, Episode]:
    """The episodes of a run by query id. Raises PromptError if there are too few shots for a query.

    Shots that the model chooses, or that depend on which files can be read, are all chosen now; others are drawn as
    they are asked for.
    """
    method = asked.demos.method
    if ranking is None and method in DRAWN and (support is None or support.usable is None):
        require_shots(asked, queries, support)
        return Episodes(asked, queries, support)
    return {e.query.id: e for e in episodes_of(asked, queries, support, ranking)}


def without(episodes: Mapping[str, Episode], ids: Container[str]) -> Mapping[str, Episode]:
    """The episodes of the other queries."""
    if isinstance(episodes, Episodes):
        return Episodes(episodes.asked, [q for id, q in episodes.queries.items() if id not in ids], episodes.support)
    return {id: episode for id, episode in episodes.items() if id not in ids}


def ablated(episodes: Iterator[Episode], run: Asked, support: Support | None) -> Iterator[Episode]:
    """Episodes after the run's ablation, if it has one."""
    if not run.ablation:
        return episodes
    key = f"{run.demos.seed}:{run.task.name}"
    return (ablate(e, run.ablation, key, support.answers(e.query) if support else (), support) for e in episodes)


def choose_queries(examples: Sequence[Example], limit: int | None, task: str) -> tuple[Example, ...]:
    """The queries to run, in file order: all, or the first `limit` of a random order keyed by the task.

    Larger limits contain smaller ones, and all seeds have the same queries, so that runs can be paired.
    """
    if limit is None or limit >= len(examples):
        return tuple(examples)
    examples_by_id = sorted(examples, key=lambda e: e.id)
    draw = endless_draw(len(examples_by_id), f"{task}:queries")
    chosen_ids = {examples_by_id[i].id for i, _ in zip(draw, range(limit), strict=False)}
    return tuple(e for e in examples if e.id in chosen_ids)


def build_episodes(
    queries: Sequence[Example],
    support: Support | None,
    spec: DemoSpec,
    text_only_shots: int,
    ranking: Ranking | None = None,
) -> Iterator[Episode]:
    """The episode of each query, in order. Raises PromptError when the support set is too small for the shots.

    Zero shots means `text_only_shots` demonstrations without their pictures (Flamingo v2 A.2: two for open-ended
    tasks), drawn like all others.
    """
    text_only = spec.shots == 0
    demo_spec = replace(spec, shots=text_only_shots) if text_only else spec
    if text_only and support is not None and support.usable is not None:
        support = replace(support, usable=lambda example: bool(example.answer))  # without pictures
    for query in queries:
        try:
            shots = choose_shots(query, support, demo_spec, ranking)
        except TooFewShotsError as error:
            raise _too_few_without_pictures(error) if text_only else error from error
        yield Episode(query, shots, text_only)


def choose_shots(
    query: Example, support: Support | None, spec: DemoSpec, ranking: Ranking | None
) -> tuple[Example, ...]:
    """The shots of one query by the spec's method."""
    if spec.shots == 0:
        return ()
    if support is None:
        raise UsageError(NO_SUPPORT)
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
