"""Tables as people see them."""

from __future__ import annotations

import pytest

from flamingo_eval.cli.console import print_table


def test_no_number_is_cut_where_columns_are_many(capsys: pytest.CaptureFixture[str]) -> None:
    titles = ("task", *(f"{n} shots" for n in range(20)))
    numbers = [f"{500 + n}.1 ±{n}.5" for n in range(20)]
    print_table(titles, [("a task of some length@sample", *numbers)], 1)
    line = next(text for text in capsys.readouterr().out.splitlines() if "±" in text)
    assert [part for part in line.split("  ") if part.strip()][-1].strip() == numbers[-1]
    assert all(n in line for n in numbers)


def test_text_is_folded_not_lost(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("name", "what"), [("x", "word " * 100)])
    assert capsys.readouterr().out.count("word") == 100
