"""Named rules that read the answer out of what a chat model says. A prompt file names one: `clean: {rule: ...}`."""

from __future__ import annotations

from collections.abc import Callable

from flamingo_eval.config.specs import AnswerRule

QUOTES = ('"', "'", "\u201c\u201d", "\u2018\u2019")  # a pair, or one mark for both sides


def short_answer(text: str) -> str:
    """The first line that is not empty, without quotation marks around it and without the full stop at its end.

    Full stops inside stay, as do those of an abbreviation (`U.S.A.`) or an ellipsis.
    """
    line = next((line.strip() for line in text.splitlines() if line.strip()), "")
    for pair in QUOTES:
        if len(line) > 1 and line[0] == pair[0] and line[-1] == pair[-1]:
            line = line[1:-1].strip()
    return line[:-1].rstrip() if line.endswith(".") and line.count(".") == 1 else line


RULES: dict[AnswerRule, Callable[[str], str]] = {"": str, "short-answer": short_answer}
