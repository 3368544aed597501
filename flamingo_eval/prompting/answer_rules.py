"""Named rules that extract the answer from a chat model's text. A prompt file names one: `clean: {rule: ...}`."""

from __future__ import annotations

import re
from collections.abc import Callable

from flamingo_eval.config.specs import AnswerRule

LETTER = re.compile(
    r"""
    \A [\s*"'`]* (?: (?:the\s+)? (?:correct\s+|best\s+|final\s+)? (?:answer|option|choice) (?:\s+is)? \s*:? [\s*"'`]* )?
    (?: \( (?P<round> [A-Za-z] ) \)             # (B)
      | (?P<closed> [A-Za-z] ) [*"'`]* [.):,] (?! [a-z]\. )  # B.   b)   B: a dog; not U.S.
      | (?P<alone> [A-Za-z] ) [*"'`]* \s* (?: \Z | \n )
      | (?P<before> [B-HJ-Z] ) [*"'`]* \s )       # B a dog; not `A dog`, not `I see`
    """,
    re.VERBOSE | re.IGNORECASE,
)
ANSWER_TAG = re.compile(r"<answer>(.*?)(?:</answer>|\Z)", re.DOTALL | re.IGNORECASE)
NAMED = re.compile(r"\b(?:answer|option|choice)\b", re.IGNORECASE)
QUOTES = ('"', "'", "\u201c\u201d", "\u2018\u2019")  # a pair, or one mark for both sides


def short_answer(text: str) -> str:
    """The first line that is not empty, without quotation marks and without a full stop at its end.

    Full stops inside, of an abbreviation (`U.S.A.`) or of an ellipsis are not removed.
    """
    line = next((line.strip() for line in text.splitlines() if line.strip()), "")
    for pair in QUOTES:
        if len(line) > 1 and line[0] == pair[0] and line[-1] == pair[-1]:
            line = line[1:-1].strip()
    return line[:-1].rstrip() if line.endswith(".") and line.count(".") == 1 else line


def letter(text: str) -> str:
    """The letter of a choice at the start of an answer, as a capital; "" without one.

    Accepts `B`, `b.`, `(B)`, `**B**`, `B) a dog`, `B a dog`, each also after `Answer:` or `The answer is`. `A dog` and
    `I see` start with words, not letters.
    """
    match = LETTER.match(text)
    if match is None:
        return ""
    value = next(value for value in match.groupdict().values() if value)
    return "" if match["before"] and not value.isupper() else value.upper()


def tagged_letter(text: str) -> str:
    """The letter between the last pair of answer tags, which may be left open; "" if there is none.

    Without tags, that of the text after the reasoning (`</think>`): the letter it begins with, else the one behind
    its last `answer is`, `option` or the like, else that of its last line.
    """
    answer = text.rpartition("</think>")[2]
    tagged = ANSWER_TAG.findall(answer) or ANSWER_TAG.findall(text)
    if tagged:
        return letter(tagged[-1].strip())
    if choice := letter(answer.strip()):
        return choice
    named = [letter(answer[match.start() :]) for match in NAMED.finditer(answer)]
    lines = [line for line in answer.splitlines() if line.strip()]
    return next(filter(None, reversed(named)), "") or (letter(lines[-1].strip()) if lines else "")


RULES: dict[AnswerRule, Callable[[str], str]] = {
    "": str,
    "short-answer": short_answer,
    "letter": letter,
    "tagged-letter": tagged_letter,
}
