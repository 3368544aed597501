"""Are the pictures and clips of a run there and whole? Asked before a model is loaded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from flamingo_eval.config.specs import OnError
from flamingo_eval.data.check import unreadable_media
from flamingo_eval.errors import MediaError
from flamingo_eval.records import Episode, Media


def media_of(episodes: Iterable[Episode]) -> Iterator[Media]:
    """Every distinct picture and clip that the prompts of these episodes show, in order of first use."""
    seen: dict[Media, None] = {}
    for episode in episodes:
        shots = () if episode.text_only else episode.shots
        for example in (*shots, episode.query):
            seen.update(dict.fromkeys(example.media))
    return iter(seen)


def require_readable(episodes: Iterable[Episode], on_error: OnError) -> None:
    """Raise MediaError that lists every missing or broken file, unless failed queries are to be skipped."""
    if on_error == "skip":
        return
    problems = unreadable_media(media_of(episodes))
    if problems:
        count = "1 picture or clip" if len(problems) == 1 else f"{len(problems)} pictures or clips"
        raise MediaError(
            f"{count} cannot be read:",
            problems,
            fix="Mend them, or run with --on-error skip: their queries are then counted and listed, never scored.",
        )
