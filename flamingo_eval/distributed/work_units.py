"""Work units: the queries of one run in pieces that one replica answers, and how a lost unit is split again.

Work units do not change answers: episodes are already drawn, and an engine's answers do not depend on the batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from flamingo_eval.records import Episode

MOST_QUERIES = 256  # most queries that can be lost with a unit; larger units are not faster once batches are full
FEWEST_QUERIES = 16  # a CPU's batch
PIECES = 8  # of a unit that was lost: 256 -> 32 -> 4 -> 1, so a poison query is alone after three losses


@dataclass(frozen=True, slots=True)
class Unit:
    """Queries to be answered by one replica; `losses` counts the replicas that died with its only query."""

    episodes: tuple[Episode, ...]
    losses: int = 0


def cut(episodes: Iterable[Episode], replicas: int, max_queries: int = MOST_QUERIES) -> list[Unit]:
    """Cut a run's queries into units: large ones first, small ones at the end, so that replicas finish together.

    Queries of one picture share a unit if there is room (VQAv2 asks five questions per picture), so that one
    replica encodes it.
    """
    by_picture: dict[str, list[Episode]] = {}
    for episode in episodes:
        by_picture.setdefault(episode.query.media_id, []).append(episode)
    ordered = [e for group in by_picture.values() for e in group]
    units: list[Unit] = []
    first = 0
    while first < len(ordered):
        remaining = len(ordered) - first
        size = min(max_queries, max(FEWEST_QUERIES, remaining // (2 * replicas)))
        end = first + size
        while end < len(ordered) and end - first < max_queries and _same_picture(ordered[end - 1], ordered[end]):
            end += 1
        units.append(Unit(tuple(ordered[first:end])))
        first = end
    return units


def _same_picture(one: Episode, other: Episode) -> bool:
    return one.query.media_id == other.query.media_id


def after_loss(unit: Unit, unanswered: Sequence[Episode]) -> list[Unit]:
    """Units to repeat after a replica died: `unanswered`, the remaining queries of the unit, in pieces.

    The loss is counted against a query that was alone; among several the cause is unknown.
    """
    if len(unanswered) == 1:
        return [Unit(tuple(unanswered), unit.losses + 1)]
    size = -(-len(unanswered) // PIECES)
    return [Unit(tuple(unanswered[i : i + size])) for i in range(0, len(unanswered), size)]
