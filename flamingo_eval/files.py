"""Repeated keys in JSON. Python keeps the last one in silence; which of two was meant, nobody knows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def agreed(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """For json.loads(object_pairs_hook=...): the object, if a key that stands twice has the same value both times."""
    found = dict(pairs)
    if len(found) != len(pairs):
        for key, value in pairs:
            if found[key] != value:
                raise RepeatedKeyError(f"key '{key}' stands twice in one object, with different values")
    return found


class RepeatedKeyError(ValueError):
    """An object with two values for one key."""
