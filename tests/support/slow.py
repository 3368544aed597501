"""Parameters of tests that are slow with each parameter."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def first_and_slow(values: Iterable[Any]) -> list[Any]:
    """Parameters for `pytest.mark.parametrize`: the first unchanged, the others marked slow."""
    first, *rest = values
    return [first, *(pytest.param(*_row(value), marks=pytest.mark.slow) for value in rest)]


def _row(value: Any) -> tuple[Any, ...]:
    """A value of one parameter, or the values of several."""
    return value if isinstance(value, tuple) else (value,)
