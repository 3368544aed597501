"""Which shots a query gets. Pure functions; every draw is keyed by (seed, task, query id).

Order, --limit, batch size, resume and rank cannot change the shots, because there is no generator with state. The
k-shot demonstrations of a query are the first k of one endless draw, so the 2k-shot ones contain them, and points of a
curve over shots are comparable. What a shot is, and which rows it can come from: support.py.

The keys of every draw of a run (`endless_draw`):

    {seed}:{task}:support[:{class}]        the support set of a seed, where a task limits it       support.py
    {seed}:{task}:{query}                  random shots; with `:balanced:...` as many of each answer
    {seed}:{task}:fixed                    the same shots for every query
    {seed}:{task}:{query}:ways[:order...]  the answers of a round, and their order                 support.py
    {seed}:{task}:{query}:order {n}        further orders of the shots (--permutations)            runs/answer.py
    {seed}:{task}:{query}:{ablation}       what an ablation changes                                ablations.py
    {seed}:{task}:labels-permuted...       new names, the same for all queries                     relabelling.py
    {task}:query-images-shuffled           which query gets whose picture                          ablations.py
    {task}:queries                         the queries of --limit, the same for all seeds          episodes.py
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from random import Random

from flamingo_eval.config.specs import DemoSpec
from flamingo_eval.errors import PromptError
from flamingo_eval.prompting.support import (
    KEYED,
    Shot,
    Support,
    brought,
    endless_draw,
    in_own_order,
    pool_of,
    shown_under,
)
from flamingo_eval.records import Example

Ranking = Callable[[Example], Sequence[str]]  # query -> ids of support examples, nearest first


def random_demos(query: Example, support: Support, spec: DemoSpec) -> tuple[Example, ...]:
    """`spec.shots` shots drawn without replacement, in the order drawn; never the query's own picture.

    What has an order already keeps it: rounds over some of the pool's answers, demonstrations that come with a query.
    """
    shots = support.shots(query, spec.seed)
    draw = (
        range(len(shots)) if in_own_order(query) else endless_draw(len(shots), f"{spec.seed}:{support.task}:{query.id}")
    )
    return _taken((shots[i] for i in draw), query, support, spec)


def balanced_demos(query: Example, support: Support, spec: DemoSpec) -> tuple[Example, ...]:
    """Like random_demos, but every answer occurs equally often: once in each round of the draw.

    With shots = n x answers, every answer is shown n times ("n a way"); the rounds are nested over shots. Shots of
    several rows count by all their answers.
    """
    key = f"{spec.seed}:{support.task}:{query.id}:balanced"
    shelves: dict[str, list[Shot]] = {}
    for shot in support.shots(query, spec.seed):
        shelf = shelves.setdefault(" ".join(e.answer for e in shot), [])
        if not _shows_query(shot, query):
            shelf.append(shot)
    answers = sorted(shelves)
    draws = {a: endless_draw(len(shelves[a]), f"{key}:{a}") for a in answers}

    def rounds() -> Iterator[Shot]:
        for round_ in range(spec.shots):
            order = list(answers)
            Random(f"{key}:round {round_}").shuffle(order)
            for answer in order:
                shelf = (shelves[answer][index] for index in draws[answer])
                shot = next(filter(support.can_show, shelf), None)
                if shot is not None:
                    yield shot

    return _taken(rounds(), query, support, spec)


def fixed_demos(query: Example, support: Support, spec: DemoSpec) -> tuple[Example, ...]:
    """The same demonstrations for every query of a seed; one with the query's own picture is replaced by the next one.

    Queries with their own demonstrations show these.
    """
    shots = support.shots(query, spec.seed)
    in_order = brought(query) is not None
    draw = range(len(shots)) if in_order else endless_draw(len(shots), f"{spec.seed}:{support.task}:fixed")
    return _taken((shots[i] for i in draw), query, support, spec)


def ranked_demos(query: Example, support: Support, spec: DemoSpec, ranking: Ranking) -> tuple[Example, ...]:
    """RICES (Flamingo v2 A.2): the nearest support examples, nearest LAST, next to the query.

    The similarity of a shot of several rows is that of its nearest row; its rows keep their order.
    """
    shot_of = support.shot_by_id(query, spec.seed)
    nearest = {shot_of[id][0].id: shot_of[id] for id in ranking(query) if id in shot_of}  # each at its first position
    shots = _shots_taken(nearest.values(), query, support, spec)
    return tuple(example for shot in reversed(shots) for example in shot)


def given_demos(query: Example, support: Support, spec: DemoSpec) -> tuple[Example, ...]:
    """The demonstrations from a file or the benchmark, in that order.

    Raises PromptError for a row with the query's own picture.
    """
    if support.given is None:
        raise AssertionError(f"{spec.method} needs demonstrations from a file or a benchmark")
    key = str(query.labels.get("answer_key", ""))
    shots = tuple(shown_under(support.by_id[id], key) for id in support.given(query, spec))
    with_query_picture = [e.id for e in shots if _shows_query((e,), query) and e.media]
    if with_query_picture:
        raise PromptError(f"{support.task}: row '{with_query_picture[0]}' shows the picture of its query '{query.id}'.")
    return shots


def _shows_query(shot: Shot, query: Example) -> bool:
    """Whether a shot has the query's own picture; what comes with the query is the benchmark's choice, and shown."""
    own = brought(query) or ()
    return any(e.media_id == query.media_id and e.id not in own for e in shot)


def _taken(shots: Iterable[Shot], query: Example, support: Support, spec: DemoSpec) -> tuple[Example, ...]:
    """The rows of the first `spec.shots` shots that do not show the query's own picture.

    A query with its own demonstrations shows all of them if there are fewer; for others that is an error.
    """
    return tuple(example for shot in _shots_taken(shots, query, support, spec) for example in shot)


def _shots_taken(shots: Iterable[Shot], query: Example, support: Support, spec: DemoSpec) -> list[Shot]:
    taken_shots: list[Shot] = []
    for shot in shots:
        if len(taken_shots) == spec.shots:
            break
        if not _shows_query(shot, query) and support.can_show(shot):
            taken_shots.append(shot)
    if len(taken_shots) < spec.shots and brought(query) is None:
        raise TooFewShotsError(len(taken_shots), query, support, spec.shots)
    return taken_shots


def require_enough(queries: Sequence[Example], support: Support, spec: DemoSpec) -> None:
    """Raise PromptError for the first query with too few shots; draws only if the rows might not be enough.

    The number of available shots does not depend on the method.
    """
    rows_of = support.rows_of
    usual = support.examples and all(KEYED.isdisjoint(e.labels) for e in (*support.examples, *queries))
    if usual and len(support.examples) - max(rows_of.values()) >= spec.shots:
        return  # whatever the query's own picture
    for query in queries:
        if brought(query) is not None:
            continue
        n_own = rows_of.get((pool_of(query), query.media_id), 0)
        if "ways_shown" in query.labels or len(support.shots(query, spec.seed)) - n_own < spec.shots:
            random_demos(query, support, spec)


class TooFewShotsError(PromptError):
    """The support set has too few rows for a query: `n` demonstrations, but `wanted` are needed."""

    def __init__(self, n: int, query: Example, support: Support, wanted: int) -> None:
        pool = support.pool(query)
        pictures = len({e.media_id for e in pool})
        rows = f"the support set from split '{support.split}' has {len(pool)} rows on {pictures} pictures"
        skipped = "" if support.usable is None else ", rows that cannot be read or have no answer are skipped"
        self.task, self.n, self.wanted = support.task, n, wanted
        self.why = f"for query {query.id}: {rows}, and the query's own picture is never shown{skipped}."
        super().__init__(
            f"{support.task}: {wanted} shots requested, but only {n} demonstrations are possible for query {query.id}: "
            f"{rows}, and the query's own picture is never shown{skipped}.",
            fix=f"Lower --shots to {n} or less, or give more support data.",
        )
