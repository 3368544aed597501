"""Counts that grow while a command works -> what one of its runs added to them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

STATES = ("batch_size", "replicas")  # what is so now, not what was counted
HITS, MISSES, HIT_RATE = ("hits_memory", "hits_disk"), "misses", "hit_rate"


def since(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """What `now` has beyond `before`, number by number; shares are those of the difference, states are as they are."""
    added: dict[str, Any] = {}
    for name, value in now.items():
        if isinstance(value, Mapping):
            added[name] = since(before.get(name, {}), value)
        elif name in STATES or not isinstance(value, int):
            added[name] = value
        else:
            added[name] = value - before.get(name, 0)
    if HIT_RATE in added:
        hits = sum(added[name] for name in HITS)
        asked = hits + added[MISSES]
        added[HIT_RATE] = round(hits / asked, 6) if asked else 0.0
    return added
