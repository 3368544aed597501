"""Which prompts go through the model together: prompts of one shape, up to a budget, out of a window of waiting ones.

Only a window of prompts is in memory, so memory does not grow with their number. A shape depends on the prompt alone,
never on its neighbours, so that a prompt's results do not depend on its batch.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

LENGTH_STEP = 8


class Planned(Protocol):
    """What batching needs to know about a prompt."""

    @property
    def shape(self) -> Hashable:
        """Prompts of one shape may share a batch."""
        ...

    @property
    def cost(self) -> int:
        """The part of the budget that the prompt uses."""
        ...


P = TypeVar("P", bound=Planned)
T = TypeVar("T")


@dataclass(slots=True)
class Limits:
    """Limits of a batch: up to `rows` prompts and `budget` cost, chosen among `window` prompts. May shrink later."""

    rows: int
    budget: int
    window: int


@dataclass(slots=True)
class _Group(Generic[P]):
    members: list[P]
    cost: int = 0


def batches(prompts: Iterable[P], limits: Limits) -> Iterator[list[P]]:
    """Every prompt once, in batches of one shape: full ones, or the one waiting longest when the window is full."""
    groups: dict[Hashable, _Group[P]] = {}  # in the order of their oldest member
    waiting = 0
    for prompt in prompts:
        group = groups.setdefault(prompt.shape, _Group([]))
        if group.members and (len(group.members) >= limits.rows or group.cost + prompt.cost > limits.budget):
            del groups[prompt.shape]
            waiting -= len(group.members)
            yield group.members
            group = groups[prompt.shape] = _Group([])
        group.members.append(prompt)
        group.cost += prompt.cost
        waiting += 1
        if waiting >= limits.window:
            oldest = groups.pop(next(iter(groups)))
            waiting -= len(oldest.members)
            yield oldest.members
    for group in groups.values():
        yield group.members


def drawn_ahead(prompts: Iterable[T], n: int) -> Iterator[T]:
    """The same prompts, each drawn n places ahead, so that work started by drawing one has time to finish."""
    waiting: deque[T] = deque()
    for prompt in prompts:
        waiting.append(prompt)
        if len(waiting) > n:
            yield waiting.popleft()
    yield from waiting


def rounded_up(length: int, step: int = LENGTH_STEP) -> int:
    """The next multiple of `step`."""
    return -(-length // step) * step
