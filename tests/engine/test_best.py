"""Best-first search against the full ranking, over all that could make them differ."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from flamingo_eval import END_OF_CHUNK, Prompt, RankSpec
from flamingo_eval.api import Model, load_flamingo_model
from flamingo_eval.engine import Engine
from flamingo_eval.engine import prefill as prefill_module
from flamingo_eval.engine import ranking as ranking_module
from flamingo_eval.engine.best_first import Search, SearchTree
from flamingo_eval.engine.kv_slots import SlotCache
from flamingo_eval.engine.picture_attention import read as read_tokens
from flamingo_eval.models.flamingo import Flamingo
from flamingo_eval.records import Best, Part, best_of
from tests.support.candidates import best, some_names
from tests.support.small_flamingo import picture, small_model

MODELS: dict[str, dict[str, Any]] = {
    "relative": {"positions": "relative"},
    "alibi, short convolution": {"positions": "alibi", "norm": "layernorm", "short_conv": 3},
}
SHORT, LONG = picture(1), picture(2, frames=2)
NAMES = Path(__file__).parents[2] / "flamingo_eval" / "data" / "layouts" / "imagenet_synsets.txt"


@pytest.fixture(scope="module", params=[pytest.param("tiny", marks=pytest.mark.slow), *MODELS])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Model:
    if request.param == "tiny":
        return load_flamingo_model("tiny")
    return small_model(tmp_path_factory.mktemp("small"), context=128, **MODELS[request.param])


def some_prompts(model: Model, n: int, seed: int) -> list[Prompt]:
    """Several lengths; with no picture, one, or a demonstration's before it."""
    drawn = random.Random(seed)
    size = model.config.preprocess.size
    pictures = [picture(i, size=size) for i in range(3)] + [picture(9, size=size, frames=2)]
    prompts = []
    for i in range(n):
        parts: list[Part] = []
        if drawn.random() < 0.5:
            parts = [drawn.choice(pictures), "Output: dog" + "a" * drawn.randrange(9), END_OF_CHUNK]
        parts += [drawn.choice(pictures)] if drawn.random() < 0.7 else []
        prompts.append(Prompt([*parts, "Output:" + "b" * drawn.randrange(4)], id=f"q{i}"))
    return prompts


def three_letters(n: int) -> list[str]:
    """Names for which small models need different numbers of steps."""
    drawn = random.Random(0)
    return ["".join(drawn.choice("abcdefghijklmnop") for _ in range(3)) for _ in range(n)]


def full(engine: Engine, prompts: Sequence[Prompt], names: Sequence[Sequence[str]], rank: RankSpec) -> list[Best]:
    answers = dict(engine.score(iter(prompts), iter(names), rank))
    rows = [answers[i].scores or () for i in range(len(prompts))]
    firsts = [best_of([round(s, 6) for s in row]) for row in rows]
    return [Best(i, row[i]) for i, row in zip(firsts, rows, strict=True)]


def same(answers: Sequence[Best], expected: Sequence[Best]) -> bool:
    assert [b.candidate for b in answers] == [b.candidate for b in expected]
    return [b.score for b in answers] == pytest.approx([b.score for b in expected], abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("rank", [RankSpec(), RankSpec(normalise="mean"), RankSpec(end_of_chunk=True)])
def test_names_what_the_full_ranking_puts_first(model: Model, rank: RankSpec) -> None:
    prompts = some_prompts(model, 10, seed=1)
    lists = [some_names(260, 1), some_names(500, 2, 4), ["only one"], ["yes", "no", "yes"], some_names(20, 3)]
    names = [lists[i % len(lists)] for i in range(len(prompts))]
    engine = Engine(model, batch_size=8)
    expected = full(engine, prompts, names, rank)
    assert same(best(engine, prompts, names, rank), expected)
    assert engine.stats["searched"] >= 4  # the long lists; the short ones are read whole


@pytest.mark.slow
def test_many_trees_at_once(model: Model) -> None:
    """Candidates of every prompt its own, as in tasks with choices."""
    prompts = some_prompts(model, 12, seed=5)
    names = [some_names(200 + 10 * i, seed=i, shortest=1 + i % 5) for i in range(12)]
    engine = Engine(model, batch_size=8)
    for rank in (RankSpec(), RankSpec(normalise="mean")):
        answers = best(engine, prompts, names, rank)
        assert same(answers, full(engine, prompts, names, rank))
        assert max(len(names[i][b.candidate]) for i, b in enumerate(answers)) >= 5  # deep ones too
    assert engine.stats["searched"] - engine.stats["searched_in_vain"] >= 8


@pytest.mark.slow
def test_batch_size_order_and_neighbours_leave_no_trace(model: Model) -> None:
    """Not to rounding: bit by bit, though prompts need different numbers of steps."""
    prompts = some_prompts(model, 4, seed=3) * 2 + some_prompts(model, 4, seed=4)
    names = [some_names(300, i % 3, shortest=1 + 2 * (i % 3)) for i in range(len(prompts))]
    for rank in (RankSpec(), RankSpec(normalise="mean")):
        alone = [best(Engine(model, batch_size=1), [p], [n], rank)[0] for p, n in zip(prompts, names, strict=True)]
        assert best(Engine(model, batch_size=8), prompts, names, rank) == alone
        assert best(Engine(model), prompts[::-1], names[::-1], rank) == alone[::-1]


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_rows_whose_search_is_done_leave_the_batch(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prompts of one shape that need different numbers of steps: those that stay keep their own columns and picture,
    so that every node scores what it scores alone."""
    kept: list[list[int]] = []
    learnt: list[dict[int, Sequence[float]]] = []
    keep = SlotCache.keep

    def noted(cache: SlotCache, rows: torch.Tensor) -> None:
        kept.append(rows.tolist())
        keep(cache, rows)

    class Noted(Search):
        def __init__(self, tree: SearchTree, mean: bool, margin: float) -> None:
            super().__init__(tree, mean, margin)
            self.all: dict[int, Sequence[float]] = {}
            learnt.append(self.all)

        def learn(self, node: int, log_probs: Sequence[float]) -> None:
            super().learn(node, log_probs)
            self.all[node] = log_probs

    monkeypatch.setattr(SlotCache, "keep", noted)
    monkeypatch.setattr(ranking_module, "Search", Noted)
    model = small_model(tmp_path, context=128, **MODELS[name])
    prompts = [Prompt([picture(i), "Output:" + "abcdefgh"[i]]) for i in range(7)] + [Prompt(["Output:xyz"])]
    names = three_letters(500)
    engine = Engine(model, batch_size=8)
    answers = best(engine, prompts, [names] * 8, RankSpec())
    assert engine.stats["batches"] == 1
    assert any(rows != list(range(len(rows))) for rows in kept)
    together = learnt.copy()
    learnt.clear()
    assert answers == [best(Engine(model), [p], [names], RankSpec())[0] for p in prompts]
    assert together == learnt
    assert same(answers, full(engine, prompts, [names] * 8, RankSpec()))


@pytest.mark.slow
def test_fixed_demonstrations_are_read_once(model: Model) -> None:
    size = model.config.preprocess.size
    shots: list[Part] = [
        picture(0, size=size),
        "Output: a dog and a cow",
        END_OF_CHUNK,
        picture(1, size=size),
        "b" * 20,
    ]
    prompts = [Prompt([*shots, END_OF_CHUNK, picture(2 + i, size=size), "Output:"]) for i in range(5)]
    engine = Engine(model, batch_size=3)
    names = [some_names(300, 0)] * 5
    assert same(best(engine, prompts, names, RankSpec()), full(engine, prompts, names, RankSpec()))
    assert engine.stats["heads"] == 1


# ----------------------------------------------------------------------------------- where bounds tell nothing


@pytest.fixture
def flat(tmp_path: Path) -> Model:
    """A model to which all tokens are equally likely, wherever they stand."""
    model = small_model(tmp_path / "flat", context=128)
    with torch.no_grad():
        model.flamingo.decoder.embedding.weight.zero_()
    return model


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 8])
def test_a_search_in_vain_reads_all_and_names_the_first_of_equals(flat: Model, size: int) -> None:
    """Every candidate has the same score, so no bound prunes anything and no search tells."""
    names = ["".join(letters) for letters in _words("abcd", 5)]
    assert len(names) == 1024
    random.Random(0).shuffle(names)
    prompts = [Prompt(["Output:"]), Prompt([SHORT, "Output:"])]
    engine = Engine(flat, batch_size=size)
    for rank in (RankSpec(), RankSpec(normalise="mean")):
        answers = best(engine, prompts, [names] * 2, rank)
        assert [b.candidate for b in answers] == [0, 0]
        assert same(answers, full(engine, prompts, [names] * 2, rank))
    assert engine.stats["searched"] == engine.stats["searched_in_vain"] == 4


@pytest.mark.slow
def test_a_search_without_columns_goes_on_as_a_full_ranking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reserved are three steps, which suffice for some prompts."""
    model = small_model(tmp_path, context=128, **MODELS["relative"])
    prompts = [Prompt([picture(i), "Output:" + "abcdefgh"[i]]) for i in range(8)]
    names = [three_letters(500)] * 8
    expected = best(Engine(model), prompts, names, RankSpec())
    monkeypatch.setattr(ranking_module, "search_columns", lambda tree, at_once: 3 * at_once)
    engine = Engine(model, batch_size=8)
    answers = best(engine, prompts, names, RankSpec())
    assert 0 < engine.stats["searched_in_vain"] < engine.stats["searched"] == 8
    assert same(answers, expected)
    assert same(answers, full(engine, prompts, names, RankSpec()))
    assert answers == [best(Engine(model, batch_size=1), [p], names[:1], RankSpec())[0] for p in prompts]


def test_a_shorter_name_wins_by_sum_and_none_by_mean(flat: Model) -> None:
    names = [*_words("abcd", 4), "abc", "b", "d"]  # "b" and "d" are one token each
    prompt = [Prompt(["Output:"])]
    assert best(Engine(flat), prompt, [names], RankSpec())[0].candidate == names.index("b")
    assert best(Engine(flat), prompt, [names], RankSpec(normalise="mean"))[0].candidate == 0


@pytest.mark.slow
def test_near_ones_are_left_to_the_full_ranking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a margin that covers everything no search tells; the scores are then the full ranking's own."""
    model = small_model(tmp_path, context=128)
    prompts, names = some_prompts(model, 6, seed=2), [some_names(300, 1)] * 6
    engine = Engine(model, batch_size=4)
    expected = best(engine, prompts, names, RankSpec())
    assert engine.stats["searched_in_vain"] < 6
    monkeypatch.setattr(ranking_module, "MARGINS", {torch.float32: 1e6})
    engine = Engine(model, batch_size=4)
    assert best(engine, prompts, names, RankSpec()) == full(engine, prompts, names, RankSpec())
    assert engine.stats["searched_in_vain"] == 6
    assert same(expected, full(engine, prompts, names, RankSpec()))


def test_memory_that_does_not_suffice_halves_the_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = small_model(tmp_path, context=128)
    prompts, names = [Prompt(["Output:" + str(i)]) for i in range(6)], [some_names(300, 1)] * 6
    expected = best(Engine(model, batch_size=6), prompts, names, RankSpec())

    def scarce(flamingo: Flamingo, tokens: torch.Tensor, *rest: Any) -> torch.Tensor:
        if len(tokens) > 2:
            raise torch.OutOfMemoryError
        return read_tokens(flamingo, tokens, *rest)

    monkeypatch.setattr(prefill_module, "read", scarce)
    engine = Engine(model, batch_size=6)
    assert best(engine, prompts, names, RankSpec()) == expected
    assert engine.stats["memory_halvings"] > 0


# ----------------------------------------------------------------------------------------------- what it saves


@pytest.mark.slow
def test_a_thousand_names_need_a_small_part_of_their_tree() -> None:
    """The tiny model spells most names of ImageNet letter by letter: some 5,000 inner nodes."""
    model = load_flamingo_model("tiny")
    names = [" " + line.split(maxsplit=1)[1].split(",")[0] for line in NAMES.read_text().splitlines()]
    assert len(names) == 1000
    prompts = [p for p in some_prompts(model, 12, seed=0) if p.media][:4]
    engine = Engine(model)
    answers = best(engine, prompts, [names] * 4, RankSpec())
    stats = engine.stats
    assert stats["inner_nodes"] == 4 * 5030
    assert 0 < stats["inner_nodes_read"] < 0.1 * stats["inner_nodes"]
    assert same(answers[:1], full(engine, prompts[:1], [names], RankSpec()))


def test_models_give_index_and_score(tmp_path: Path) -> None:
    model = small_model(tmp_path, context=128)
    prompts, names = some_prompts(model, 3, seed=1), [["a", "bc"], some_names(200, 0), ["x"]]
    scores = model.score(prompts, names)
    for (index, score), row in zip(model.best(prompts, names), scores, strict=True):
        assert index == best_of(row)
        assert score == pytest.approx(max(row), abs=1e-4)


def test_empty_candidates_are_named(tmp_path: Path) -> None:
    model = small_model(tmp_path)
    answers = dict(Engine(model).best(iter(some_prompts(model, 2, 0)), iter([["a", ""], []]), RankSpec()))
    assert "q0: an empty candidate cannot be scored: ''" in str(answers[0].error)
    assert "q1: there are no candidates" in str(answers[1].error)


def _words(letters: str, length: int) -> list[str]:
    return [""] if length == 0 else [w + letter for w in _words(letters, length - 1) for letter in letters]
