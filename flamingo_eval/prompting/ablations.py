"""Ablations: change an episode to see what a model uses. Episode -> Episode, keyed and pure.

Each ablation is part of the run's record, its folder and the table. Draws are keyed by (seed, task, query id, name).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from flamingo_eval.config.specs import TaskSpec
from flamingo_eval.errors import PromptError, UsageError, did_you_mean
from flamingo_eval.prompting.relabelling import LABELS_PERMUTED, answers_by_key, labels_permuted, why_not_permuted
from flamingo_eval.prompting.support import Support, endless_draw, pool_of
from flamingo_eval.records import IN_WORDS, Episode, Example, Image, Split

IMAGES_IN_WORDS = "images-in-words"
BLANK = Image(Path(__file__).resolve().parent / "blank.png")  # one mid-grey picture

Ablation = Callable[[Episode, str, Sequence[str]], Episode]  # episode, key, the support's answers -> episode


def _permuted(n: int, key: str) -> list[int]:
    return list(endless_draw(n, key))


def labels_shuffled(episode: Episode, key: str, answers: Sequence[str]) -> Episode:
    """The shots keep their pictures and swap their answers among themselves (rotated along a random cycle)."""
    order = _permuted(len(episode.shots), key)
    shots = list(episode.shots)
    for i, j in zip(order, order[1:] + order[:1], strict=True):
        shots[i] = replace(episode.shots[i], answer=episode.shots[j].answer)
    return replace(episode, shots=tuple(shots))


def labels_random(episode: Episode, key: str, answers: Sequence[str]) -> Episode:
    """Each shot shows an answer drawn from the support set's answers (Min et al. 2022)."""
    draw = (answers[i] for i in endless_draw(len(answers), key))
    return replace(episode, shots=tuple(replace(s, answer=next(draw, s.answer)) for s in episode.shots))


def labels_replaced(episode: Episode, key: str, answers: Sequence[str]) -> Episode:
    """Each distinct answer of the shots becomes a nonsense word, the same word each time."""
    words = {a: f"label{i + 1}" for i, a in enumerate(dict.fromkeys(s.answer for s in episode.shots))}
    return replace(episode, shots=tuple(replace(s, answer=words[s.answer]) for s in episode.shots))


def images_shuffled(episode: Episode, key: str, answers: Sequence[str]) -> Episode:
    """The shots keep their texts and swap their pictures among themselves (rotated along a random cycle)."""
    order = _permuted(len(episode.shots), key)
    shots = list(episode.shots)
    for i, j in zip(order, order[1:] + order[:1], strict=True):
        shots[i] = replace(episode.shots[i], media=episode.shots[j].media)
    return replace(episode, shots=tuple(shots))


def images_blank(episode: Episode, key: str, answers: Sequence[str]) -> Episode:
    """The shots' pictures and clips become grey pictures; the query keeps its own."""
    return replace(episode, shots=tuple(map(_blank, episode.shots)))


def images_all_blank(episode: Episode, key: str, answers: Sequence[str]) -> Episode:
    """All pictures and clips become grey pictures, the query's too: what is left are the texts."""
    return Episode(_blank(episode.query), tuple(map(_blank, episode.shots)), episode.text_only)


def _blank(example: Example) -> Example:
    return replace(example, media=(BLANK,) * len(example.media))


def order_reversed(episode: Episode, key: str, answers: Sequence[str]) -> Episode:
    """The same shots, last first."""
    return replace(episode, shots=tuple(reversed(episode.shots)))


def order_permuted(episode: Episode, key: str, answers: Sequence[str]) -> Episode:
    """The same shots in another random order."""
    return replace(episode, shots=tuple(episode.shots[i] for i in _permuted(len(episode.shots), key)))


def query_image_removed(episode: Episode, key: str, answers: Sequence[str]) -> Episode:
    """The query has no picture and no tag: only the text remains."""
    return replace(episode, query=replace(episode.query, media=()))


def query_image_blank(episode: Episode, key: str, answers: Sequence[str]) -> Episode:
    """The query's pictures become grey ones; their tags stay."""
    return replace(episode, query=_blank(episode.query))


def images_in_words(episode: Episode, key: str, support: Support) -> Episode:
    """The shots' pictures are replaced by words, if the data have them: a text twin, or another caption."""
    return replace(episode, shots=tuple(map(_in_words, episode.shots)))


def _in_words(shot: Example) -> Example:
    words = words_for(shot)
    if not words:
        raise PromptError(f"row '{shot.id}' has no words for its picture.")
    return replace(shot, media=(), fields={**shot.fields, IN_WORDS: words})


def words_for(example: Example) -> str:
    """The text that replaces a row's pictures: its text twin (data/words.py), or another caption than its answer."""
    if isinstance(words := example.labels.get(IN_WORDS), str):
        return words
    return next((text for text in example.references if text.strip() != example.answer.strip()), "")


def shots_irrelevant(episode: Episode, key: str, support: Support) -> Episode:
    """The shots come from elsewhere: another pool, another operator, or rows whose answer is wrong for the query."""
    draw = f"{key}:{episode.query.id}:shots-irrelevant"
    elsewhere = _elsewhere(episode.query, support)
    rows = (elsewhere[i] for i in endless_draw(len(elsewhere), draw))
    usable = (row for row in rows if row.media_id != episode.query.media_id and support.can_show((row,)))
    shots = tuple(row for row, _ in zip(usable, episode.shots, strict=False))
    if len(shots) < len(episode.shots):
        raise PromptError(
            f"{support.task}, query {episode.query.id}: {len(episode.shots)} irrelevant rows are needed, "
            f"{len(shots)} are there.",
            fix="Lower --shots.",
        )
    return replace(episode, shots=shots)


def _elsewhere(query: Example, support: Support) -> list[Example]:
    """The support rows that have nothing to do with a query, with the answers that they show."""
    if pool_of(query):
        return [row for row in support.examples if pool_of(row) != pool_of(query)]
    if operator := str(query.labels.get("answer_key", "")):
        return [
            replace(row, answer=answer)
            for row in support.examples
            for name, answer in answers_by_key(row).items()
            if name != operator and answer not in query.references
        ]
    right = {*query.references, query.answer}
    return [row for row in support.examples if row.answer not in right]


ABLATIONS: Mapping[str, Ablation] = {
    "labels-shuffled": labels_shuffled,
    "labels-random": labels_random,
    "labels-replaced": labels_replaced,
    "images-shuffled": images_shuffled,
    "images-all-blank": images_all_blank,
    "images-blank": images_blank,
    "order-reversed": order_reversed,
    "order-permuted": order_permuted,
    "query-image-removed": query_image_removed,
    "query-image-blank": query_image_blank,
}
AblationOfSupport = Callable[[Episode, str, Support], Episode]  # episode, the run's key, support set -> episode
ABLATIONS_OF_SUPPORT: Mapping[str, AblationOfSupport] = {
    IMAGES_IN_WORDS: images_in_words,
    LABELS_PERMUTED: labels_permuted,
    "shots-irrelevant": shots_irrelevant,
}
QUERY_IMAGES_SHUFFLED = "query-images-shuffled"  # not of one episode: pictures are exchanged among all queries
ABLATION_NAMES = tuple(sorted((*ABLATIONS, *ABLATIONS_OF_SUPPORT, QUERY_IMAGES_SHUFFLED)))


def check_ablation(name: str) -> None:
    """Raise UsageError for an unknown ablation."""
    if name and name not in ABLATION_NAMES:
        hint = did_you_mean(name, ABLATION_NAMES)
        raise UsageError(f"unknown ablation '{name}'. {hint}".rstrip(), fix=f"Known: {', '.join(ABLATION_NAMES)}.")


def check_ablation_of(task: TaskSpec, name: str, support: Split | None) -> None:
    """Raise UsageError for an ablation that a task's data cannot have."""
    if name == LABELS_PERMUTED and (why := why_not_permuted(task, support)):
        raise UsageError(f"{task.name}: --ablation {name}: {why}.", fix="It is for close-ended and short answers.")
    if name != IMAGES_IN_WORDS:
        return
    bare = [row.id for row in support.examples if not words_for(row)] if support is not None else []
    if support is None or bare:
        what = f"{len(bare)} rows of split '{support.name}' ('{bare[0]}')" if support is not None else "the shots"
        raise UsageError(
            f"{task.name}: --ablation {name}: the data have no words for the pictures of {what}.",
            fix="It is for captions, and for data with a text twin (VL-ICL's *_text folders next to the task's) or "
            "with COCO's captions file next to VQA's questions.",
        )


def ablate(episode: Episode, name: str, key: str, answers: Sequence[str], support: Support | None = None) -> Episode:
    """The episode after the ablation `name`; "" and query-images-shuffled leave it as it is.

    `key` is the run's, `answers` are the support set's. An ablation of the support set needs `support`; without shots
    it leaves the episode as it is.
    """
    if name in ABLATIONS_OF_SUPPORT:
        return episode if support is None else ABLATIONS_OF_SUPPORT[name](episode, key, support)
    return ABLATIONS[name](episode, f"{key}:{episode.query.id}:{name}", answers) if name in ABLATIONS else episode


def shuffle_query_images(examples: Sequence[Example], task: str) -> tuple[Example, ...]:
    """Queries exchange their pictures; none keeps its own unless one picture has more than half of all queries.

    Keyed by the task over the whole split, so that --limit does not change the exchange. References, question and id
    are unchanged; only the pictures are wrong.
    """
    pictures: dict[str, list[Example]] = {}
    for example in sorted(examples, key=lambda e: e.id):
        pictures.setdefault(example.media_id, []).append(example)
    names = sorted(pictures)
    order = [names[i] for i in endless_draw(len(names), f"{task}:{QUERY_IMAGES_SHUFFLED}")]
    cycle = [example for name in order for example in pictures[name]]
    step = max((len(rows) for rows in pictures.values()), default=0)  # rows of a picture are adjacent: step over them
    media_of = {e.id: cycle[(i + step) % len(cycle)].media for i, e in enumerate(cycle)}
    return tuple(replace(e, media=media_of[e.id]) for e in examples)
