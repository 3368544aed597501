"""The README's picture of a terminal: what its command prints, within 80 columns, and nothing from any network."""

from __future__ import annotations

import html
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PICTURE = ROOT / "docs" / "images" / "run-80-columns.svg"
README = (ROOT / "README.md").read_text(encoding="utf-8")
LARGEST = 30_000  # bytes


def lines() -> list[str]:
    """The lines of text in the picture, from top to bottom."""
    svg = PICTURE.read_text(encoding="utf-8")
    rows: dict[float, list[str]] = {}
    for y, text in re.findall(r'<text class="terminal-r\d+"[^>]* y="([\d.]+)"[^>]*>(.*?)</text>', svg):
        rows.setdefault(float(y), []).append(html.unescape(text).replace("\N{NO-BREAK SPACE}", " "))
    return ["".join(rows[y]).rstrip() for y in sorted(rows)]


def test_it_shows_the_readmes_command_and_both_blocks_of_its_table() -> None:
    text = "\n".join(lines())
    (command,) = re.findall(r"\.venv/bin/(flamingo-eval run vqav2 coco .*)", README)
    assert text.startswith(f"$ {command}")
    assert all(f"{shots} shots" in text for shots in (0, 4, 8, 16, 32))
    assert len(re.findall(r"\d ±\d", text)) == 10
    assert "run-80-columns.svg" in README


def test_it_is_80_columns_wide_small_and_asks_no_network() -> None:
    assert all(len(line) <= 80 for line in lines())
    svg = PICTURE.read_text(encoding="utf-8")
    assert len(svg) < LARGEST
    assert re.findall(r"https?://[^\"\s]+", svg) == ["http://www.w3.org/2000/svg"]


def test_the_readme_says_the_same_numbers() -> None:
    """The picture's text for those who do not see it is its alternative text."""
    (alternative,) = re.findall(r"!\[([^\]]*)\]\(docs/images/run-80-columns\.svg\)", README)
    for number in ("36.3", "65.8", "92.1", "540.5", "664.3"):
        assert number in alternative
        assert any(number in line for line in lines())
