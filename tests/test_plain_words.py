"""Messages, docstrings, comments, docs and task files use the words of docs/architecture.md, known from pip and git."""

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
    r"\bstands? (here|there|below|beside)\b": "is here, or duplicate",
    r"\black(s|ed|ing)?\b": "has no, or missing",
    r"\bis said\b": "is printed, or state what the text says",
    r"\b(is|are) told\b": "is called with, or gets",
    r"\bwhat is done stays\b": "finished queries are kept",
    r"\bwhole numbers?\b": "integer",
    r"\bexpected [^.;:]*, found\b": "expected ..., got ...",
    r"\bso many\b": "this many",
    r"\bthere twice\b": "duplicate",
    r"\banew\b": "again",
    r"\b(goes|go) on (with|from|at|to|exactly)\b": "resume, or continue",
    r"\b(command|run|it) goes on\b": "resumes, or continues",
    r"\blies? (in|on|below|beside|there|elsewhere)\b(?! one side)": "is in",
    r"\bhangs? on\b": "depends on",
    r"\bat hand\b": "available, or current",
    r"\bin vain\b": "without result",
    r"\bfor nothing\b": "without",
    r"\bhad the \w+ its\b": "if the ... had its",
    r"\bgives? way\b": "is replaced by",
    r"\bqueries bring\b|\bquery brings\b": "queries have their own",
    r"\ba (row|line|panel|file|folder|turn) a (row|line|file|folder|turn|query|picture|run|class)\b": "per",
    r"^The same\.$": "say what it is",
}


def texts_of_code(path: Path) -> Iterator[tuple[int, str]]:
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


def texts_of_page(path: Path) -> Iterator[tuple[int, str]]:
    """Line and text of every paragraph of a page or a YAML file, without blocks of code."""
    text = path.read_text(encoding="utf-8")
    text = re.sub(r"^```.*?^```", lambda block: "\n" * block.group().count("\n"), text, flags=re.DOTALL | re.MULTILINE)
    for paragraph in re.finditer(r"(?:.+\n?)+", text):
        yield text.count("\n", 0, paragraph.start()) + 1, " ".join(paragraph.group().split())


def unclear(text: str) -> list[str]:
    """The unclear phrases in a text, with the words to use instead."""
    return [f"use {better!r}" for phrase, better in UNCLEAR.items() if re.search(phrase, text, re.IGNORECASE)]


def problems(path: Path, texts: Iterator[tuple[int, str]]) -> list[str]:
    """Place, text and better words of every text with an unclear phrase."""
    return [
        f"{path.relative_to(ROOT)}:{line}: {text.strip()[:80]!r}: {', '.join(unclear(text))}"
        for line, text in texts
        if unclear(text)
    ]


def test_messages_docstrings_and_comments_use_plain_words() -> None:
    paths = [p for folder in ("flamingo_eval", "benchmarks") for p in sorted((ROOT / folder).rglob("*.py"))]
    assert [problem for path in paths for problem in problems(path, texts_of_code(path))] == []


def test_pages_task_files_and_prompt_files_use_plain_words() -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "benchmarks").glob("*.md")]
    pages += [ROOT / "results" / "README.md", ROOT / "flamingo_eval/sample/tiny/README.md"]
    yaml = [*(ROOT / "tasks").glob("*.yaml"), *(ROOT / "prompts").glob("*/*.yaml")]
    yaml += (ROOT / "flamingo_eval/training/recipes").glob("*.yaml")
    assert len(pages) > 20
    assert len(yaml) > 60
    assert [problem for path in sorted([*pages, *yaml]) for problem in problems(path, texts_of_page(path))] == []


@pytest.mark.parametrize(
    ("text", "clear"),
    [
        ("expected an integer, got 'x'", True),
        ("expected a number, found 'x'", False),
        ("Fix the file, then run the same command: it resumes.", True),
        ("Mend it, then go on.", False),
        ("The same command goes on.", False),
        ("which shelf does it go on?", True),
        ("A figure is the median of so many.", False),
        ("One line per run.", True),
        ("A line a run.", False),
        ("Columns found: a, b.", True),
        ("The same.", False),
        ("The same on every machine.", True),
    ],
)
def test_unclear_phrases_are_noticed(text: str, clear: bool) -> None:
    assert (unclear(text) == []) == clear


def test_a_page_is_read_without_its_code(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("one\ntwo\n\n```sh\nso many\n```\n\nthree\n", encoding="utf-8")
    assert list(texts_of_page(page)) == [(1, "one two"), (8, "three")]
