"""What in-context researchers take away from a prompt to see what the model uses. Episode -> Episode, keyed and pure.

Each ablation is part of the run's record, its folder and the table. Draws are keyed by (seed, task, query id, name).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from flamingo_eval.errors import UsageError, did_you_mean
from flamingo_eval.prompting.demos import endless_draw
from flamingo_eval.records import Episode, Example, Image

BLANK = Image(Path(__file__).resolve().parent / "blank.png")  # one mid-grey picture

Ablation = Callable[[Episode, str, Sequence[str]], Episode]  # episode, key, the support's answers -> episode


def _permuted(n: int, key: str) -> list[int]:
    return list(endless_draw(n, key))


def labels_shuffled(episode: Episode, key: str, answers: Sequence[str]) -> Episode:
    """The shots keep their pictures and swap their answers among themselves (rotated along a random cycle)."""
    order = _permuted(len(episode.shots), key)
    shots = list(episode.shots)
    for here, there in zip(order, order[1:] + order[:1], strict=True):
        shots[here] = replace(episode.shots[here], answer=episode.shots[there].answer)
    return replace(episode, shots=tuple(shots))


def labels_random(episode: Episode, key: str, answers: Sequence[str]) -> Episode:
    """Each shot shows an answer drawn from the support set's answers (Min et al. 2022)."""
    draw = (answers[i] for i in endless_draw(len(answers), key))
    return replace(episode, shots=tuple(replace(s, answer=next(draw, s.answer)) for s in episode.shots))


def labels_replaced(episode: Episode, key: str, answers: Sequence[str]) -> Episode:
    """Each distinct answer of the shots becomes a word that means nothing, the same word each time."""
    words = {a: f"label{i + 1}" for i, a in enumerate(dict.fromkeys(s.answer for s in episode.shots))}
    return replace(episode, shots=tuple(replace(s, answer=words[s.answer]) for s in episode.shots))


def images_shuffled(episode: Episode, key: str, answers: Sequence[str]) -> Episode:
    """The shots keep their texts and swap their pictures among themselves (rotated along a random cycle)."""
    order = _permuted(len(episode.shots), key)
    shots = list(episode.shots)
    for here, there in zip(order, order[1:] + order[:1], strict=True):
        shots[here] = replace(episode.shots[here], media=episode.shots[there].media)
    return replace(episode, shots=tuple(shots))


def images_blank(episode: Episode, key: str, answers: Sequence[str]) -> Episode:
    """The shots' pictures and clips become one grey picture; the query keeps its own."""
    return replace(episode, shots=tuple(replace(s, media=(BLANK,)) for s in episode.shots))


def order_reversed(episode: Episode, key: str, answers: Sequence[str]) -> Episode:
    """The same shots, last first."""
    return replace(episode, shots=tuple(reversed(episode.shots)))


def order_permuted(episode: Episode, key: str, answers: Sequence[str]) -> Episode:
    """The same shots in another random order."""
    return replace(episode, shots=tuple(episode.shots[i] for i in _permuted(len(episode.shots), key)))


def query_image_removed(episode: Episode, key: str, answers: Sequence[str]) -> Episode:
    """The query loses its picture and its tag: what is left is a text-only prior."""
    return replace(episode, query=replace(episode.query, media=()))


def query_image_blank(episode: Episode, key: str, answers: Sequence[str]) -> Episode:
    """The query's picture becomes a grey one; its tag stays."""
    return replace(episode, query=replace(episode.query, media=(BLANK,)))


ABLATIONS: Mapping[str, Ablation] = {
    "labels-shuffled": labels_shuffled,
    "labels-random": labels_random,
    "labels-replaced": labels_replaced,
    "images-shuffled": images_shuffled,
    "images-blank": images_blank,
    "order-reversed": order_reversed,
    "order-permuted": order_permuted,
    "query-image-removed": query_image_removed,
    "query-image-blank": query_image_blank,
}
QUERY_IMAGES_SHUFFLED = "query-images-shuffled"  # not of one episode: pictures change places among all queries
ABLATION_NAMES = tuple(sorted((*ABLATIONS, QUERY_IMAGES_SHUFFLED)))


def check_ablation(name: str) -> None:
    """Raise UsageError for a name that is no ablation."""
    if name and name not in ABLATION_NAMES:
        hint = did_you_mean(name, ABLATION_NAMES)
        raise UsageError(f"unknown ablation '{name}'. {hint}".rstrip(), fix=f"Known: {', '.join(ABLATION_NAMES)}.")


def ablate(episode: Episode, name: str, key: str, answers: Sequence[str]) -> Episode:
    """The episode after the ablation `name`; "" and query-images-shuffled leave it as it is."""
    return ABLATIONS[name](episode, f"{key}:{episode.query.id}:{name}", answers) if name in ABLATIONS else episode


def shuffle_query_images(examples: Sequence[Example], task: str) -> tuple[Example, ...]:
    """Queries exchange their pictures; none keeps its own unless one picture has more than half of all queries.

    Keyed by the task over the whole split, so that --limit does not change who gets which. References, question and
    id stay: only what the model sees is wrong.
    """
    pictures: dict[str, list[Example]] = {}
    for example in sorted(examples, key=lambda e: e.id):
        pictures.setdefault(example.media_id, []).append(example)
    names = sorted(pictures)
    order = [names[i] for i in endless_draw(len(names), f"{task}:{QUERY_IMAGES_SHUFFLED}")]
    cycle = [example for name in order for example in pictures[name]]
    step = max((len(rows) for rows in pictures.values()), default=0)  # rows of a picture stand together: step over them
    given = {e.id: cycle[(i + step) % len(cycle)].media for i, e in enumerate(cycle)}
    return tuple(replace(e, media=given[e.id]) for e in examples)
