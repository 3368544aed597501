"""Which support examples can be shown: those with an answer and readable pictures and clips.

Used only with --on-error skip, for the drawn examples: each is decoded once, and the result is cached.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from flamingo_eval.errors import MediaError
from flamingo_eval.records import Example, Image, Media

NO_ANSWER = "no answer"


@dataclass(slots=True)
class UsableExamples:
    """Says of an example whether it can be shown, and keeps those that the draws of one run met and left out.

    `check` raises MediaError for a picture that cannot be shown: whoever shows it later need not decode it again.
    """

    check: Callable[[Image], None] | None = None
    passed_over: dict[str, str] = field(default_factory=dict)  # example id -> reason
    _causes: dict[Media, str] = field(default_factory=dict)

    def __call__(self, example: Example) -> bool:
        cause = NO_ANSWER if not example.answer else self.unreadable(example)
        if cause:
            self.passed_over[example.id] = cause
        return not cause

    def unreadable(self, example: Example) -> str:
        """Why a picture or clip of the example cannot be read; empty if all can."""
        return next(filter(None, map(self._cause, example.media)), "")

    def taken(self) -> dict[str, str]:
        """The examples skipped since the last call."""
        passed_over = dict(sorted(self.passed_over.items()))
        self.passed_over.clear()
        return passed_over

    def _cause(self, media: Media) -> str:
        if media not in self._causes:
            self._causes[media] = self._looked_at(media)
        return self._causes[media]

    def _looked_at(self, media: Media) -> str:
        from flamingo_eval.data.check import unreadable_media  # imports decoders

        if self.check is None or not isinstance(media, Image):
            problems = unreadable_media([media])
            return problems[0].what if problems else ""
        try:
            self.check(media)
        except MediaError as error:
            return str(error)
        return ""


def digest_of(passed_over: Mapping[str, str]) -> str:
    """The first 16 hex digits of the sha256 over the sorted ids; the reasons do not count."""
    return hashlib.sha256("\n".join(sorted(passed_over)).encode("utf-8", "surrogatepass")).hexdigest()[:16]
