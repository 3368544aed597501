"""How long the rest of a run takes, by what its queries and pictures have cost so far.

Answers come in bursts, one batch at a time. The first queries take long because every support picture is new to the
encoder; later ones are faster. So the time of the bursts is divided into two costs, one per query and one per encoded
picture, and the rest of the run is estimated from both. Without counts of pictures,
the newer half of the bursts is used.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

MERGED = 0.05  # answers within this share of the last burst's time belong to that burst
MOST_BURSTS = 128
LEAST_BURSTS = 3
LEAST_SHARE = 0.1  # of the queries, if there are fewer bursts
OVERDUE = 0.1  # of the time waited, if an answer is later than expected
EVEN = 0.05  # weight of equal shares for the two costs, if bursts cannot separate them


@dataclass(frozen=True, slots=True)
class Burst:
    """When it ended, and how many queries were answered and pictures encoded by then."""

    at: float
    queries: int
    pictures: int


class TimeLeft:
    """Call it for every answer."""

    def __init__(self, total: int, began: float, done: int = 0) -> None:
        """`done` of `total` queries were answered before `began` (seconds of any clock)."""
        self.total = total
        self._bursts = [Burst(began, done, 0)]

    @property
    def per_second(self) -> float | None:
        """Queries a second since the beginning; None before the first answer."""
        first, last = self._bursts[0], self._bursts[-1]
        return (last.queries - first.queries) / (last.at - first.at) if last.at > first.at else None

    def add(self, now: float, done: int, pictures: int = 0) -> None:
        """`done` queries are answered, and `pictures` were encoded since the beginning."""
        last = self._bursts[-1]
        same = len(self._bursts) > 1 and now - last.at < MERGED * (last.at - self._bursts[-2].at)
        if same:
            self._bursts[-1] = Burst(last.at, done, pictures)
        else:
            self._bursts.append(Burst(now, done, pictures))
        if len(self._bursts) > MOST_BURSTS:
            self._bursts = [self._bursts[0], *self._bursts[2::2]]

    def seconds(self, now: float, pictures: float = 0) -> float | None:
        """Remaining seconds at `now`, with this many pictures to encode; None while too little is known."""
        first, last = self._bursts[0], self._bursts[-1]
        answered = last.queries - first.queries
        if last.queries >= self.total:
            return 0.0
        known = len(self._bursts) > LEAST_BURSTS or answered >= LEAST_SHARE * (self.total - first.queries)
        if not answered or not known:
            return None
        bursts = self._with_whole_newest()
        per_query, per_picture = _costs(bursts)
        waited, left = now - last.at, self.total - bursts[-1].queries
        return max(OVERDUE * waited, left * per_query + pictures * per_picture - waited)

    def _with_whole_newest(self) -> list[Burst]:
        """The bursts, the newest as large as the one before it: its other answers come at once and cost nothing."""
        if len(self._bursts) <= 2:
            return self._bursts
        earlier, before, newest = self._bursts[-3:]
        queries = max(newest.queries, before.queries + (before.queries - earlier.queries))
        return [*self._bursts[:-1], Burst(newest.at, min(self.total, queries), newest.pictures)]


def _costs(bursts: Sequence[Burst]) -> tuple[float, float]:
    """Seconds of a query and of a picture. The first burst, which warms everything up, is left out if it can be."""
    first, last = bursts[0], bursts[-1]
    start = 0
    if not last.pictures:
        middle = (first.queries + last.queries) / 2
        start = max(i for i, burst in enumerate(bursts[:-1]) if burst.queries <= middle)
        start = max(0, min(start, len(bursts) - 1 - LEAST_BURSTS))
    if start == 0 and len(bursts) > 2:
        start = 1
    steps = list(zip(bursts[start:], bursts[start + 1 :], strict=False))
    seconds = [after.at - before.at for before, after in steps]
    queries = [after.queries - before.queries for before, after in steps]
    pictures = [after.pictures - before.pictures for before, after in steps]
    return _two_costs(seconds, queries, pictures)


def _two_costs(seconds: Sequence[float], queries: Sequence[int], pictures: Sequence[int]) -> tuple[float, float]:
    """Least squares of seconds = a * queries + b * pictures with a, b >= 0 that account for all of the time."""
    time, n, m = sum(seconds), sum(queries), sum(pictures)
    if not m or not n:
        return (time / n if n else 0.0), (time / m if m else 0.0)
    x, y = [q / n for q in queries], [p / m for p in pictures]
    ridge = EVEN / len(seconds)
    xx, yy, xy = _dot(x, x) + ridge, _dot(y, y) + ridge, _dot(x, y)
    xt, yt = _dot(x, seconds) + ridge * time / 2, _dot(y, seconds) + ridge * time / 2
    a, b = max(0.0, xt * yy - yt * xy), max(0.0, yt * xx - xt * xy)
    return time * a / (a + b) / n, time * b / (a + b) / m


def _dot(left: Sequence[float], right: Sequence[float]) -> float:
    return sum(a * b for a, b in zip(left, right, strict=True))
