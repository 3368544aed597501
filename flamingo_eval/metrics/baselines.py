"""Baselines from shots alone: the score of always repeating one of the shots' answers, by the task's own metric.

    majority of the shots   the most frequent answer; of equally frequent ones the answer that was shown first
    last shot               the answer right before the query
    random shot             the answer of one shot, drawn by (seed, query id) and nothing else

Answers are compared without outer white space and case; the answer has the spelling shown first. A query without shots
gets an empty answer, which scores no better than any other text. A model that does no better than these baselines may
have learned only the answers from its demonstrations (SMMILE, arXiv 2506.21355, prints the first and the last of them
next to its models).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import TypeAlias

from flamingo_eval.config.specs import MetricSpec
from flamingo_eval.metrics import metric_row
from flamingo_eval.metrics.scoring import score_all
from flamingo_eval.records import Best, Example, Prediction, Score

Baseline: TypeAlias = Callable[[Sequence[str], str], str]  # answers in the order of the prompt, key of a draw -> answer

MAJORITY, LAST, RANDOM = "majority of the shots", "last shot", "random shot"


def same_answer(text: str) -> str:
    """The key by which answers are compared: their text without outer white space and case."""
    return text.strip().casefold()


def most_frequent(answers: Sequence[str], key: str = "") -> str:
    """The most frequent answer; the first one of equally frequent ones. Empty if there is none."""
    counts: dict[str, int] = {}
    for answer in answers:
        counts[same_answer(answer)] = counts.get(same_answer(answer), 0) + 1
    return max(answers, key=lambda answer: counts[same_answer(answer)], default="")  # max returns the first of equals


def last_shown(answers: Sequence[str], key: str = "") -> str:
    """The answer of the shot next to the query. Empty if there is none."""
    return answers[-1] if answers else ""


def random_shown(answers: Sequence[str], key: str) -> str:
    """The answer of one shot, drawn by `key`; every shot is equally likely. Empty if there is none."""
    return answers[int(Random(key).random() * len(answers))] if answers else ""


BASELINES: Mapping[str, Baseline] = {MAJORITY: most_frequent, LAST: last_shown, RANDOM: random_shown}


def baseline_answers(
    name: str, examples: Sequence[Example], shot_answers: Sequence[Sequence[str]], seed: int
) -> tuple[str, ...]:
    """A baseline's answer to each query; `shot_answers`: its shots' answers in the order of the prompt, aligned."""
    choose = BASELINES[name]
    return tuple(
        choose(answers, f"{seed}:{example.id}:{name}") for example, answers in zip(examples, shot_answers, strict=True)
    )


def baseline_scores(
    metric: MetricSpec,
    examples: Sequence[Example],
    shot_answers: Sequence[Sequence[str]],
    seed: int,
    *,
    dialect: str = "",
    candidates: Sequence[str] = (),
) -> dict[str, Score]:
    """The score of every baseline under a metric, with its interval, over the same queries as the model's.

    `shot_answers` are the answers of each query's shots in the order of the prompt. `dialect` is the protocol's, as in
    score_all; `candidates` are the split's, of a close-ended task whose queries name none. Nothing if no query has a
    shot. Raises what the metric raises (MissingDependency, MetricError).
    """
    if not any(shot_answers):
        return {}
    scores: dict[str, Score] = {}
    for name in BASELINES:
        answers = baseline_answers(name, examples, shot_answers, seed)
        predictions = [
            saying(text, example, metric.name, candidates) for text, example in zip(answers, examples, strict=True)
        ]
        (scores[name],), _ = score_all(predictions, examples, [metric], dialect=dialect)
    return scores


def saying(text: str, example: Example, metric: str, candidates: Sequence[str] = ()) -> Prediction:
    """A prediction with this text; for a metric of candidates, one that prefers the candidate with this text to all
    others.

    If the text is not a candidate, none is preferred; if only the best candidate is needed, no candidate is right.
    """
    row = metric_row(metric)
    if row.needs == "text":
        return Prediction(example.id, text)
    choices = example.candidates or candidates
    scores = tuple(float(same_answer(choice) == same_answer(text)) for choice in choices)
    if row.best_suffices and not any(scores):
        return Prediction(example.id, best=Best(-1, 0.0))
    return Prediction(example.id, scores=scores)
