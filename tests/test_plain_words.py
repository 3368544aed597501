"""Messages, docstrings and comments use the words of docs/architecture.md, known from pip, git and pytest."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# phrase -> the words to use instead
UNCLEAR = {
    r"\bmend(s|ed|ing)?\b": "fix",
    r"\bstands? here\b": "is here, or duplicate",
    r"\black(s|ed|ing)?\b": "has no, or missing",
    r"\bis said\b": "is printed, or state what the text says",
    r"\bwhat is done stays\b": "finished queries are kept",
    r"\bwhole numbers?\b": "integer",
    r"\bexpected [^.;:]*, found\b": "expected ..., got ...",
    r"\bso many\b": "this many",
    r"\bthere twice\b": "duplicate",
    r"^The same\.$": "say what it is",
}


def texts(path: Path) -> Iterator[tuple[int, str]]:
    """Line and text of every string, f-string and comment; values in f-strings are `_`."""
    source = path.read_text(encoding="utf-8")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.JoinedStr):
            yield node.lineno, "".join(str(v.value) if isinstance(v, ast.Constant) else "_" for v in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


def unclear(text: str) -> list[str]:
    """The unclear phrases in a text, with the words to use instead."""
    return [f"use {better!r}" for phrase, better in UNCLEAR.items() if re.search(phrase, text, re.IGNORECASE)]


def test_messages_docstrings_and_comments_use_plain_words() -> None:
    problems = [
        f"{path.relative_to(ROOT)}:{line}: {text.strip()[:80]!r}: {', '.join(unclear(text))}"
        for path in sorted((ROOT / "flamingo_eval").rglob("*.py"))
        for line, text in texts(path)
        if unclear(text)
    ]
    assert problems == []


@pytest.mark.parametrize(
    ("text", "clear"),
    [
        ("expected an integer, got 'x'", True),
        ("expected a number, found 'x'", False),
        ("Fix the file, then run the same command: it resumes.", True),
        ("Mend it, then go on.", False),
        ("Columns found: a, b.", True),
        ("The same.", False),
        ("The same on every machine.", True),
    ],
)
def test_unclear_phrases_are_noticed(text: str, clear: bool) -> None:
    assert (unclear(text) == []) == clear
