"""What the answers of a run copy from their shots' answers: part of outputs.jsonl."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from flamingo_eval.config.specs import RunSpec
from flamingo_eval.metrics.copying import shot_use
from flamingo_eval.records import Episode, Output, Prediction, Score, Split


def with_copying(
    outputs: Sequence[Output], episodes: Mapping[str, Episode], spec: RunSpec, split: Split
) -> tuple[list[Output], Mapping[str, Score]]:
    """The outputs with what each copied from its shots, and scores of corpus metrics derived from it.

    `episodes` are those of the outputs, by query id; failed outputs, and outputs without an episode, are not changed.
    """
    rows = [i for i, o in enumerate(outputs) if not o.error and o.id in episodes]
    use = shot_use(
        [Prediction.of(outputs[i]) for i in rows],
        [episodes[outputs[i].id].query for i in rows],
        [[shot.answer for shot in episodes[outputs[i].id].shots] for i in rows],
        spec.task.metrics[0],
        dialect=spec.prompt.metric_dialect,
        candidates=split.candidates,
        labelled=split.labelled,
    )
    marked = list(outputs)
    for i, copying in zip(rows, use.queries, strict=True):
        marked[i] = replace(marked[i], copying=copying)
    return marked, use.scores
