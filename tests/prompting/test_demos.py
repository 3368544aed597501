"""demos.py and episodes.py: shots depend on (seed, task, query id, method, shots) and on nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flamingo_eval.config.specs import DemoSpec
from flamingo_eval.errors import PromptError, UsageError
from flamingo_eval.prompting.demos import balanced_demos, fixed_demos, random_demos, ranked_demos
from flamingo_eval.prompting.episodes import build_episodes, choose_queries
from flamingo_eval.prompting.support import Support, draw_support, endless_draw
from flamingo_eval.records import Example


def row(n: int, picture: int | None = None, answer: str = "a", **labels: object) -> Example:
    return Example(f"{n:04d}", (), str(n if picture is None else picture), answer=answer, labels=labels)


ROWS = [row(n, n // 2, answer="abc"[n % 3]) for n in range(60)]
QUERY = row(7, 3)


def support(rows: list[Example] = ROWS, **changes: Any) -> Support:
    return draw_support("t", "train", rows, replace(DemoSpec(), **changes))


def ids(shots: tuple[Example, ...]) -> list[str]:
    return [s.id for s in shots]


def test_the_draw_is_frozen() -> None:
    """These ids may never change: published scores rest on them."""
    assert list(endless_draw(10, "key")) == FROZEN_DRAW
    assert ids(random_demos(QUERY, support(), DemoSpec(shots=4, seed=0))) == FROZEN_SHOTS


@given(n=st.integers(0, 200), key=st.text(max_size=20))
def test_a_draw_is_a_permutation(n: int, key: str) -> None:
    assert sorted(endless_draw(n, key)) == list(range(n))


@settings(max_examples=50)
@given(k=st.integers(1, 20), seed=st.integers(0, 5), query=st.integers(0, 200))
def test_shots_are_nested_distinct_and_never_of_the_querys_picture(k: int, seed: int, query: int) -> None:
    query_row = row(query, query // 2)
    few = random_demos(query_row, support(), DemoSpec(shots=k, seed=seed))
    many = random_demos(query_row, support(), DemoSpec(shots=2 * k, seed=seed))
    assert few == many[:k]
    assert len({s.id for s in many}) == 2 * k
    assert all(s.media_id != query_row.media_id for s in many)


def test_the_order_of_the_file_has_no_say() -> None:
    shuffled = list(ROWS)
    Random(1).shuffle(shuffled)
    spec = DemoSpec(shots=8, support_size=30)
    for method in (random_demos, fixed_demos, balanced_demos):
        one = method(QUERY, draw_support("t", "train", ROWS, spec), spec)
        two = method(QUERY, draw_support("t", "train", shuffled, spec), spec)
        assert one == two


def test_seed_task_and_query_change_the_shots() -> None:
    base = ids(random_demos(QUERY, support(), DemoSpec(shots=8)))
    assert base != ids(random_demos(QUERY, support(), DemoSpec(shots=8, seed=1)))
    assert base != ids(random_demos(row(8, 4), support(), DemoSpec(shots=8)))
    other_task = draw_support("u", "train", ROWS, DemoSpec())
    assert base != ids(random_demos(QUERY, other_task, DemoSpec(shots=8)))


@pytest.mark.slow
def test_random_shots_are_uniform() -> None:
    counts = Counter(random_demos(row(1000 + i), support(), DemoSpec(shots=1))[0].id for i in range(6000))
    assert len(counts) == len(ROWS)
    assert max(counts.values()) < 160  # 100 expected, standard deviation 10
    assert min(counts.values()) > 50


def test_support_is_drawn_once_a_seed() -> None:
    assert len(support(support_size=16).examples) == 16
    assert support(support_size=16) == support(support_size=16)
    assert support(support_size=16) != support(support_size=16, seed=1)
    assert len(support(support_size=0).examples) == len(ROWS)


def test_support_per_class() -> None:
    drawn = support(support_per_class=5)
    assert Counter(e.answer for e in drawn.examples) == {"a": 5, "b": 5, "c": 5}


def test_balanced_shots_show_every_answer_equally_often() -> None:
    for rounds in (1, 2, 5):
        shots = balanced_demos(QUERY, support(), DemoSpec(shots=3 * rounds))
        assert Counter(s.answer for s in shots) == {"a": rounds, "b": rounds, "c": rounds}
    assert balanced_demos(QUERY, support(), DemoSpec(shots=3)) == shots[:3]


def test_fixed_shots_are_the_same_for_all_queries_but_those_of_their_pictures() -> None:
    spec = DemoSpec(shots=4)
    common = fixed_demos(row(5000), support(), spec)
    assert fixed_demos(row(5001), support(), spec) == common
    own = fixed_demos(row(5002, int(common[0].media_id)), support(), spec)
    assert common[0] not in own
    assert own[:3] == common[1:4]


def test_ranked_shots_stand_nearest_last() -> None:
    ranking = ["0007", "0006", "0012", "0013", "0020"]  # the first two are on the query's own picture
    shots = ranked_demos(QUERY, support(), DemoSpec(shots=2), lambda _: ranking)
    assert ids(shots) == ["0013", "0012"]


def test_pools_keep_to_themselves() -> None:
    rows = [row(n, pool="p" if n % 2 else "q") for n in range(40)]
    drawn = draw_support("t", "train", rows, DemoSpec(support_size=4))
    shots = random_demos(row(99, pool="p"), drawn, DemoSpec(shots=10))
    assert all(s.labels["pool"] == "p" for s in shots)


def test_too_few_rows_say_how_many_there_are() -> None:
    with pytest.raises(PromptError) as caught:
        random_demos(QUERY, support(ROWS[:10]), DemoSpec(shots=32))
    assert "32 shots requested, but only 8 demonstrations are possible for query 0007" in str(caught.value)
    assert "has 10 rows on 5 pictures" in str(caught.value)
    assert "Lower --shots to 8" in str(caught.value)


def test_limit_is_a_prefix_of_the_larger_ones() -> None:
    queries = [row(n) for n in range(100)]
    few, many = choose_queries(queries, 10, "t"), choose_queries(queries, 50, "t")
    assert len(few) == 10
    assert {q.id for q in few} < {q.id for q in many}
    assert list(ids(many)) == sorted(ids(many))  # in file order
    assert choose_queries(queries, None, "t") == choose_queries(queries, 100, "t") == tuple(queries)


def test_zero_shots_are_text_only_demonstrations() -> None:
    (episode,) = build_episodes([QUERY], support(), DemoSpec(shots=0), text_only_shots=2)
    assert episode.text_only
    assert episode.shots == random_demos(QUERY, support(), DemoSpec(shots=2))
    (bare,) = build_episodes([QUERY], support(), DemoSpec(shots=0), text_only_shots=0)
    assert bare.shots == ()


def test_shots_without_a_support_split() -> None:
    with pytest.raises(UsageError, match="--shots 0"):
        list(build_episodes([QUERY], None, DemoSpec(shots=1), text_only_shots=0))


FROZEN_DRAW = [8, 9, 1, 6, 3, 0, 2, 7, 5, 4]
FROZEN_SHOTS = ["0045", "0015", "0022", "0036"]


# ------------------------------------------------------------------------------ shots of several rows, answers by query

PAIRS = [row(2 * n + half, answer=("yes", "no")[half], group=f"g{n}") for n in range(20) for half in (0, 1)]


@pytest.mark.parametrize("method", [random_demos, fixed_demos, balanced_demos])
def test_rows_of_a_group_are_one_shot_in_their_order(
    method: Callable[[Example, Support, DemoSpec], tuple[Example, ...]],
) -> None:
    drawn = support(PAIRS)
    few = method(row(900), drawn, DemoSpec(shots=3))
    many = method(row(900), drawn, DemoSpec(shots=8))
    assert [s.answer for s in many] == ["yes", "no"] * 8
    assert [a.labels["group"] for a in many[::2]] == [b.labels["group"] for b in many[1::2]]
    assert few == many[:6]


def test_a_group_with_the_querys_picture_is_never_shown() -> None:
    own = random_demos(row(900), support(PAIRS), DemoSpec(shots=1))
    others = random_demos(row(900, int(own[1].media_id)), support(PAIRS), DemoSpec(shots=19))
    assert not {s.id for s in own} & {s.id for s in others}


def test_the_nearest_row_brings_its_group() -> None:
    shots = ranked_demos(row(900), support(PAIRS), DemoSpec(shots=2), lambda _: ["0007", "0006", "0030", "0002"])
    assert ids(shots) == ["0030", "0031", "0006", "0007"]  # nearest last


def test_the_support_set_is_drawn_in_whole_groups() -> None:
    drawn = support(PAIRS, support_size=7)
    assert len(drawn.examples) == 14
    assert set(Counter(e.labels["group"] for e in drawn.examples).values()) == {2}


def test_an_answer_may_depend_on_the_query() -> None:
    rows = [row(n, answer="", answers={"+": str(n), "x": str(-n)}) for n in range(30)]
    plus = random_demos(row(900, answer_key="+"), support(rows), DemoSpec(shots=4))
    times = random_demos(row(900, answer_key="x"), support(rows), DemoSpec(shots=4))
    assert [s.answer for s in plus] == [str(int(s.id)) for s in plus]
    assert [s.answer for s in times] == [str(-int(s.id)) for s in times]
    assert ids(plus) == ids(times)  # the draw is the query's
    assert support(rows).answers(row(900, answer_key="x"))[:2] == ("0", "-1")


WAYS = [
    Example(f"q/{name}/{i}", (), f"{name}{i}", answer=name, labels={"pool": "q"}) for name in "abcde" for i in range(5)
]


def test_a_round_shows_the_querys_answer_and_another_always_in_the_same_order() -> None:
    orders, others = set(), set()
    for seed in range(40):
        query = Example("q", (), "q", answer="c", labels={"pool": "q", "ways_shown": 2})
        shots = random_demos(query, support(WAYS), DemoSpec(shots=5, seed=seed))
        names = [s.answer for s in shots]
        assert len(shots) == 10
        assert names == names[:2] * 5
        assert "c" in names
        assert [s.id[-1] for s in shots] == list("0011223344")
        assert random_demos(query, support(WAYS), DemoSpec(shots=2, seed=seed)) == shots[:4]
        orders.add(names.index("c"))
        others |= set(names) - {"c"}
    assert (orders, others) == ({0, 1}, set("abde"))


def test_more_rounds_than_there_are_say_so() -> None:
    query = Example("q", (), "q", answer="c", labels={"pool": "q", "ways_shown": 2})
    with pytest.raises(PromptError, match="6 shots requested, but only 5"):
        random_demos(query, support(WAYS), DemoSpec(shots=6))
