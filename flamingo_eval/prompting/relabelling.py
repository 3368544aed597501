"""Permuted labels: one keyed permutation of a task's answers for the whole run, in shots and references alike.

The meaning of a label then follows only from the shots; a model that answers from its training is always wrong. Answers
are permuted within their form (yes and no, integers, single words, longer texts), in a cycle, so that every answer
changes if its form has at least two. If labels are valid within a pool, its answers are permuted; if all rows have one
list of candidates, the candidates are, by index, because names of classes may collide. A reference that no support row
has is not changed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from flamingo_eval.config.specs import TaskSpec
from flamingo_eval.prompting.support import Support, endless_draw, pool_of
from flamingo_eval.records import Episode, Example, Split

LABELS_PERMUTED = "labels-permuted"
NUMBER = re.compile(r"[-\u2212]?\d+")
NO_LABELS = ("cider", "bleu", "rouge_l", "meteor", "wups", "ndcg", "mwap", "msap")  # metrics that compare no labels


def why_not_permuted(task: TaskSpec, support: Split | None) -> str:
    """Why a task's answers are not labels that can be permuted; "" if they are."""
    if support is None:
        return "there are no shots to show the labels"
    if task.metrics[0].name in NO_LABELS:
        return f"{task.metrics[0].name} compares more than labels"
    if task.mode == "close-ended" and not support.candidates:
        return "every query has choices of its own"
    return ""


def labels_permuted(episode: Episode, key: str, support: Support) -> Episode:
    """All answers change places by one permutation for the run, in shots and references alike."""
    if support.candidates:
        order = _by_index(key, support)
        shots = tuple(_with_target(shot, order, support.candidates) for shot in episode.shots)
        return replace(episode, query=_with_target(episode.query, order, support.candidates), shots=shots)
    names = _by_text(key, support, pool_of(episode.query))
    query = episode.query
    references = tuple(names.get(r, r) for r in query.references)
    return replace(
        episode,
        query=replace(query, answer=names.get(query.answer, query.answer), references=references),
        shots=tuple(replace(s, answer=names.get(s.answer, s.answer)) for s in episode.shots),
    )


def answers_by_key(row: Example) -> Mapping[str, str]:
    """The answers that a support row shows by `answer_key`; {"": its answer} if it has one."""
    answers = row.labels.get("answers")
    return {str(k): str(v) for k, v in answers.items()} if isinstance(answers, Mapping) else {"": row.answer}


def _with_target(row: Example, order: Sequence[int], candidates: Sequence[str]) -> Example:
    index = row.target
    if index is None:
        index = candidates.index(row.answer) if row.answer in candidates else None
    if index is None:
        return row
    name = candidates[order[index]]
    references = (name,) if row.references else ()
    return replace(row, answer=name, target=None if row.target is None else order[index], references=references)


def _by_index(key: str, support: Support) -> Sequence[int]:
    """The new index of every candidate."""
    if key not in support.permutations:
        new = list(range(len(support.candidates)))
        for here, there in _cycle([*new], f"{key}:{LABELS_PERMUTED}"):
            new[here] = there
        support.permutations[key] = new
    return support.permutations[key]


def _by_text(key: str, support: Support, pool: str) -> Mapping[str, str]:
    """The new text of every answer that the support set, or its pool, shows."""
    place = f"{key}:{LABELS_PERMUTED}:{pool}" if pool else f"{key}:{LABELS_PERMUTED}"
    if place not in support.new_names:
        texts = {a for row in support.pools.get(pool, ()) for a in answers_by_key(row).values() if a}
        forms: dict[str, list[str]] = {}
        for answer in sorted(texts):
            forms.setdefault(_form(answer), []).append(answer)
        names: dict[str, str] = {}
        for form, answers in forms.items():
            names |= {answers[i]: answers[j] for i, j in _cycle(range(len(answers)), f"{place}:{form}")}
        support.new_names[place] = names
    return support.new_names[place]


def _cycle(items: Sequence[int], key: str) -> list[tuple[int, int]]:
    """Each item and the next one on a random cycle through all of them."""
    order = [items[i] for i in endless_draw(len(items), key)]
    return list(zip(order, order[1:] + order[:1], strict=True))


def _form(answer: str) -> str:
    """Which answers an answer can change places with."""
    text = answer.strip().lower()
    if text in ("yes", "no"):
        return "yes or no"
    if NUMBER.fullmatch(text):
        return "number"
    return "word" if len(text.split()) == 1 else "text"
